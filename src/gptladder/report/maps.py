"""Who looks at whom, for one run of a row."""

from __future__ import annotations

import io
import sys
from base64 import b64encode
from itertools import islice

from PIL.Image import Image

from gptladder.report.collect import Reading
from gptladder.report.rows import Row
from gptladder.system.errors import UserError

MOST = 20  # rows: more pictures than anybody looks at, and a checkpoint to load for each


def attention_maps(rows: list[Row]) -> dict[str, list[str]]:
    """For each row that attends the maps of its layers, as PNGs for a page."""
    maps: dict[str, list[str]] = {}
    for run in islice(filter(None, map(_run_with_attention, rows)), MOST):
        try:
            maps[run.label] = _maps(run)
        except (UserError, OSError) as error:  # nothing is worth the rest of the page
            print(f"no attention maps of {run.label}: {error}", file=sys.stderr)
    return maps


def _run_with_attention(row: Row) -> Reading | None:
    """The first run that left weights with attention; told from its config, so that no checkpoint is opened in vain."""
    for run in row.finished:
        model = run.config.get("model")
        if isinstance(model, dict) and model.get("n_layer") and run.sample and run.checkpoint.is_file():
            return run
    return None


def _maps(run: Reading) -> list[str]:
    # Imported here: torch takes longer to load than a report without maps takes in all.
    from gptladder.data.tokenizer import token_labels
    from gptladder.evaluation.attention_maps import LONGEST, draw
    from gptladder.model.attention import attention_weights
    from gptladder.runs.checkpoint import load_trained
    from gptladder.system.threads import single_thread

    trained = load_trained(run.checkpoint)
    tokens = trained.tokenizer.encode(run.sample)[: min(trained.block_size, LONGEST)].long()
    with single_thread():
        weights = attention_weights(trained.net, tokens)
    return [_embedded(draw(heads, token_labels(trained.tokenizer, tokens.tolist()))) for heads in weights]


def _embedded(image: Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
