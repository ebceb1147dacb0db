"""The attention maps of one run per row, as images for the page."""

from __future__ import annotations

import io
import sys
from base64 import b64encode
from itertools import islice

from PIL.Image import Image

from gptladder.report.aggregate import Row
from gptladder.report.load_runs import RunRecord
from gptladder.system.errors import UserError

MAX_ROWS = 20  # each row costs the loading of a checkpoint


def attention_images(rows: list[Row]) -> dict[str, list[str]]:
    """The attention maps of each row with attention, one data URL per layer, by label."""
    images: dict[str, list[str]] = {}
    with_attention = ((row, run) for row in rows if (run := _run_with_attention(row)) is not None)
    for row, run in islice(with_attention, MAX_ROWS):
        try:
            images[row.label] = _draw_layers(run)
        except (UserError, OSError) as error:  # must not stop the rest of the page
            print(f"no attention maps of {row.label}: {error}", file=sys.stderr)
    return images


def _run_with_attention(row: Row) -> RunRecord | None:
    """The first run with attention and a checkpoint; its config tells, so that no checkpoint is loaded in vain."""
    for run in row.ended:
        model = run.config.get("model")
        if isinstance(model, dict) and model.get("n_layer") and run.sample and run.checkpoint.is_file():
            return run
    return None


def _draw_layers(run: RunRecord) -> list[str]:
    # Imported here: loading torch takes longer than a whole report without attention maps.
    from gptladder.data.tokenizer import token_labels
    from gptladder.evaluation.attention_maps import MAX_PROMPT_TOKENS, draw_heads
    from gptladder.model.attention import attention_weights
    from gptladder.runs.checkpoint import load_trained
    from gptladder.system.threads import single_thread

    trained = load_trained(run.checkpoint)
    tokens = trained.tokenizer.encode(run.sample)[: min(trained.block_size, MAX_PROMPT_TOKENS)].long()
    with single_thread():
        weights = attention_weights(trained.net, tokens)
    return [data_url(draw_heads(heads, token_labels(trained.tokenizer, tokens.tolist()))) for heads in weights]


def data_url(image: Image) -> str:
    """An image as a PNG that is part of the page."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
