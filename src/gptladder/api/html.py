"""How a notebook shows a run, attention maps and the loss of a text: pieces of HTML that need no network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gptladder.cli.summary import relative_path, summary_rows
from gptladder.evaluation.attention_maps import draw_layers
from gptladder.report.analysis_page import token_spans
from gptladder.report.attention import data_url
from gptladder.report.page import load_template
from gptladder.runs.run import ENDED, error_summary

if TYPE_CHECKING:
    from gptladder.api.inspection import Attention, Surprise


def run_html(result: dict[str, Any], path: Path) -> str:
    """The summary that the command prints at the end of a run; of another run, its status."""
    ended = result["status"] in ENDED
    rows = [(name, value.plain) for name, value in summary_rows(result)] if ended else _status_rows(result)
    shown = relative_path(path)
    return load_template("run_cell.html.j2").render(
        model=result.get("model"),
        rows=[*rows, ("run", str(shown))],
        sample=(result.get("sample") or "").strip("\n") if result.get("step") else "",
        command=shlex.join(["tensorboard", "--logdir", str(shown)]),
    )


def _status_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    curve = result.get("curve") or []
    last = [(f"step {curve[-1]['step']:,}", f"val {curve[-1]['val_estimate']:.4f}")] if curve else []
    return [("status", result["status"]), *last, *([("error", error_summary(result))] if result.get("error") else [])]


def attention_html(attention: Attention) -> str:
    """The maps of a whole network as one image: one row per layer, one column per head."""
    image = None
    if attention.layers:
        image = data_url(draw_layers([torch.from_numpy(weights) for weights in attention.layers], attention.tokens))
    return load_template("attention_cell.html.j2").render(image=image)


def surprise_html(surprise: Surprise) -> str:
    """The text, each token shaded by its loss, as on the page of ``inspect``."""
    nats = [None, *surprise.nats[1:].tolist()]
    spans = token_spans(surprise.tokens, nats, block_size=surprise.block_size, uniform_loss=surprise.uniform_loss)
    return load_template("surprise_cell.html.j2").render(spans=spans, uniform_loss=surprise.uniform_loss)
