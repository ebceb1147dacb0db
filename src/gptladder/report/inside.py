"""One run from the inside: its pictures, its figures, and a page that needs no network."""

from __future__ import annotations

import io
import json
import math
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gptladder.evaluation.analysis import ENTROPY_TOKENS, Inspection, even_entropy
from gptladder.evaluation.attention_maps import READABLE, draw_layers
from gptladder.report.charts import png
from gptladder.report.page import template
from gptladder.report.positions import positions
from gptladder.runs.checkpoint import Trained
from gptladder.system.files import write_files

SHOWN = 2000  # tokens of the text: more than a screen, less than a browser minds


@dataclass(frozen=True)
class Piece:
    """A token on the page."""

    text: str
    nats: float | None  # the first of a text is not predicted
    n_context: int
    heat: float  # from 0, expected, to 1, no better than a blind guess


def write_inspection(seen: Inspection, trained: Trained, *, title: str, out: Path) -> list[Path]:
    """Write what a look inside found: pictures, ``inspection.json`` and ``inspection.html``.

    Returns:
        the files, the page last.

    Raises:
        UserError: they cannot be written there.
    """
    pictures = {"loss_by_position.png": png(positions(seen.by_position.tolist(), seen.errors.tolist()))}
    if seen.maps:
        pictures["attention.png"] = _attention(seen, trained)
    made = {
        **pictures,
        "inspection.json": json.dumps(figures(seen, trained), indent=1, ensure_ascii=False).encode(),
        "inspection.html": html(seen, trained, title=title, pictures=pictures).encode(),
    }
    write_files(made, out)
    return [out / name for name in made]


def figures(seen: Inspection, trained: Trained) -> dict[str, object]:
    """The numbers of the page, for programs."""
    return {
        "loss": float(seen.surprise.double().mean()),
        "loss_by_position": seen.by_position.tolist(),
        "error_by_position": seen.errors.tolist(),
        "head_entropy": [heads.tolist() for heads in seen.entropies],
        "even_entropy": _even(seen, trained),
        "prompt": [{"token": piece.text, "nats": piece.nats} for piece in _prompt(seen, trained)],
    }


def html(seen: Inspection, trained: Trained, *, title: str, pictures: dict[str, bytes]) -> str:
    """The page; what prompt and text say is escaped wherever it appears."""
    return template("inside.html.j2").render(
        title=title,
        rung=trained.config.get("rung", ""),
        seen=seen,
        loss=float(seen.surprise.double().mean()),
        block_size=trained.block_size,
        blind=math.log(trained.tokenizer.vocab_size),
        prompt=_prompt(seen, trained),
        named=min(len(seen.prompt), trained.block_size) <= READABLE,
        text=_pieces(seen.tokens[:SHOWN], seen.surprise, trained),
        by_position=list(zip(seen.by_position.tolist(), seen.errors.tolist(), strict=True)),
        entropies=[heads.tolist() for heads in seen.entropies],
        even=_even(seen, trained),
        entropy_tokens=min(ENTROPY_TOKENS, len(seen.tokens)),
        pictures={name: f"data:image/png;base64,{b64encode(picture).decode()}" for name, picture in pictures.items()},
    )


def _attention(seen: Inspection, trained: Trained) -> bytes:
    labels = [trained.tokenizer.decode([token]) for token in seen.prompt[-trained.block_size :].tolist()]
    file = io.BytesIO()
    draw_layers(seen.maps, labels).save(file, "PNG")
    return file.getvalue()


def _prompt(seen: Inspection, trained: Trained) -> list[Piece]:
    return _pieces(seen.prompt, seen.prompt_surprise, trained)


def _pieces(tokens: Tensor, surprise: Tensor, trained: Trained) -> list[Piece]:
    blind = math.log(trained.tokenizer.vocab_size) or 1.0
    nats = [None, *surprise[: len(tokens) - 1].tolist()]
    return [
        Piece(
            trained.tokenizer.decode([token]),
            cost,
            (place - 1) % trained.block_size + 1 if place else 0,
            min((cost or 0.0) / blind, 1.0),
        )
        for place, (token, cost) in enumerate(zip(tokens.tolist(), nats, strict=True))
    ]


def _even(seen: Inspection, trained: Trained) -> float:
    return even_entropy(min(trained.block_size, len(seen.tokens)))
