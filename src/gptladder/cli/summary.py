"""The end of a run, on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

COLOURS = {"MATCH": "green", "DRIFT": "yellow"}


def closing(result: dict[str, Any], path: Path) -> RenderableType:
    """The end of a job: a panel for a run of its own, a line for one of many."""
    return line(result) if HydraConfig.get().mode == RunMode.MULTIRUN else panel(result, path)


def line(result: dict[str, Any]) -> Text:
    """A run in one line: ``multihead seed 1337   train 2.2440   val 2.2609   MATCH   14.2 s``."""
    verdict = (result["published"] or {}).get("verdict", "")
    return Text.assemble(
        (f"{result['model']:<12}", "bold"),
        f"seed {result['seed']}   ",
        _figures(result["train_estimate"], result["val_estimate"]),
        f"   {result['wall_seconds']:.1f} s   ",
        (verdict, COLOURS.get(verdict, "")),
    )


def panel(result: dict[str, Any], path: Path) -> Panel:
    """What a run came to: its numbers, the published ones, a sample, and where to look further."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    for name, value in (*_rows(result), ("run", Text(str(shown), overflow="fold"))):
        table.add_row(name, value)
    where = Text(f"tensorboard --logdir {shown}", style="cyan", overflow="fold")
    body = Group(table, Text(), Text(result["sample"].strip("\n"), style="italic"), Text(), where)
    return Panel(body, title=Text(result["model"], style="bold"), title_align="left", padding=(1, 2), width=100)


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, Text]]:
    rate = result["tokens_per_second"]
    yield "parameters", Text(f"{result['params']:,}")
    speed = f"   {result['tokens']:,} tokens, {rate:,} a second" if rate else "   nothing was trained"
    yield "steps", Text(f"{result['step']:,}{speed}")
    yield "estimate", _figures(result["train_estimate"], result["val_estimate"])
    yield from _published(result)
    yield "exact val loss", Text(f"{result['val_loss']:.4f}   {result['val_bits_per_char']:.4f} bits a character")
    yield "best", Text(f"{result['best']['val_loss']:.4f} at step {result['best']['step']:,}")
    yield "time", Text(f"{result['train_seconds']:.1f} s training, {result['wall_seconds']:.1f} s in all")


def _published(result: dict[str, Any]) -> Iterator[tuple[str, Text]]:
    published = result["published"]
    if published is None:
        yield "published", Text("nothing for this recipe")
        return
    at = "" if published["step"] == result["step"] else f"   at step {published['step']:,}"
    verdict = (published["verdict"], f"bold {COLOURS[published['verdict']]}")
    yield "published", _figures(published["train"], published["val"]).append(at)
    yield "", Text.assemble(verdict, f"   largest difference {published['max_abs_diff']:.4f}")


def _figures(train: float, val: float) -> Text:
    return Text(f"train {train:.4f}   val {val:.4f}")
