"""The analysis of one run as files: charts, values, and an HTML page that needs no network."""

from __future__ import annotations

import io
import json
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gptladder.evaluation.analysis import ENTROPY_TOKENS, Analysis, uniform_entropy
from gptladder.evaluation.attention_maps import MAX_LABELED_TOKENS, draw_layers
from gptladder.report.charts import to_png
from gptladder.report.loss_by_position import plot_loss_by_position
from gptladder.report.page import load_template
from gptladder.runs.checkpoint import Trained
from gptladder.system.files import write_files

MAX_TEXT_TOKENS = 2000  # tokens of the text that the page shows


@dataclass(frozen=True)
class TokenSpan:
    """A token on the page."""

    text: str
    nats: float | None  # the first token of a text is not predicted
    n_context: int
    intensity: float  # of its color: 0 for a loss of zero, 1 for that of a uniform prediction or more


def write_analysis(analysis: Analysis, trained: Trained, *, title: str, out: Path) -> list[Path]:
    """Write the charts, ``analysis.json`` and ``analysis.html``.

    Returns:
        the files, the page last.

    Raises:
        UserError: they cannot be written there.
    """
    by_position = plot_loss_by_position(analysis.loss_by_position.tolist(), analysis.standard_errors.tolist())
    images = {"loss_by_position.png": to_png(by_position)}
    if analysis.attention:
        images["attention.png"] = _draw_attention(analysis, trained)
    files = {
        **images,
        "analysis.json": json.dumps(to_json(analysis, trained), indent=1, ensure_ascii=False).encode(),
        "analysis.html": render_analysis(analysis, trained, title=title, images=images).encode(),
    }
    write_files(files, out)
    return [out / name for name in files]


def to_json(analysis: Analysis, trained: Trained) -> dict[str, object]:
    """The values of the page, for programs."""
    return {
        "loss": _mean_loss(analysis),
        "loss_by_position": analysis.loss_by_position.tolist(),
        "error_by_position": analysis.standard_errors.tolist(),
        "head_entropy": [heads.tolist() for heads in analysis.head_entropies],
        "uniform_entropy": _uniform_entropy(analysis, trained),
        "prompt": [{"token": span.text, "nats": span.nats} for span in _prompt_spans(analysis, trained)],
    }


def render_analysis(analysis: Analysis, trained: Trained, *, title: str, images: dict[str, bytes]) -> str:
    """The page; prompt and text are escaped."""
    n_text, n_prompt = len(analysis.tokens), min(len(analysis.prompt), trained.block_size)
    return load_template("analysis_page.html.j2").render(
        title=title,
        rung=trained.config.get("rung", ""),
        loss=_mean_loss(analysis),
        n_predictions=len(analysis.token_losses),
        block_size=trained.block_size,
        uniform_loss=math.log(trained.tokenizer.vocab_size),
        prompt=_prompt_spans(analysis, trained),
        labeled=n_prompt <= MAX_LABELED_TOKENS,
        text=_token_spans(analysis.tokens[:MAX_TEXT_TOKENS], analysis.token_losses, trained),
        n_text=n_text,
        by_position=list(zip(analysis.loss_by_position.tolist(), analysis.standard_errors.tolist(), strict=True)),
        entropies=[heads.tolist() for heads in analysis.head_entropies],
        uniform_entropy=_uniform_entropy(analysis, trained),
        entropy_tokens=min(ENTROPY_TOKENS, n_text),
        images={name: f"data:image/png;base64,{b64encode(image).decode()}" for name, image in images.items()},
    )


def _draw_attention(analysis: Analysis, trained: Trained) -> bytes:
    labels = [trained.tokenizer.decode([token]) for token in analysis.prompt[-trained.block_size :].tolist()]
    file = io.BytesIO()
    draw_layers(analysis.attention, labels).save(file, "PNG")
    return file.getvalue()


def _prompt_spans(analysis: Analysis, trained: Trained) -> list[TokenSpan]:
    return _token_spans(analysis.prompt, analysis.prompt_losses, trained)


def _token_spans(tokens: Tensor, losses: Tensor, trained: Trained) -> list[TokenSpan]:
    return token_spans(
        [trained.tokenizer.decode([token]) for token in tokens.tolist()],
        [None, *losses[: len(tokens) - 1].tolist()],
        block_size=trained.block_size,
        uniform_loss=math.log(trained.tokenizer.vocab_size),
    )


def token_spans(
    tokens: Sequence[str], nats: Sequence[float | None], *, block_size: int, uniform_loss: float
) -> list[TokenSpan]:
    """Every token of a text with its loss, its context and its color.

    Args:
        tokens: as text.
        nats: their losses; ``None`` for the first.
        block_size: the text is cut into windows of that size.
        uniform_loss: the loss that is shown in the strongest color.
    """
    return [
        TokenSpan(
            text,
            loss,
            (index - 1) % block_size + 1 if index else 0,
            min((loss or 0.0) / (uniform_loss or 1.0), 1.0),
        )
        for index, (text, loss) in enumerate(zip(tokens, nats, strict=True))
    ]


def _mean_loss(analysis: Analysis) -> float:
    return float(analysis.token_losses.double().mean())


def _uniform_entropy(analysis: Analysis, trained: Trained) -> float:
    return uniform_entropy(min(trained.block_size, len(analysis.tokens)))
