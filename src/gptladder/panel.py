"""The end of a run, on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


def panel(result: dict[str, Any], path: Path) -> Panel:
    """What a run came to: its numbers, the published ones, a sample, and where to look further."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(result):
        table.add_row(name, value)
    where = Text(f"{path}\ntensorboard --logdir {path}", style="cyan", overflow="fold")
    body: list[RenderableType] = [table, Text(), Text(result["sample"].strip(), style="italic"), Text(), where]
    return Panel(Group(*body), title=f"[bold]{result['model']}[/]", title_align="left", padding=(1, 2), width=100)


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rate = result["tokens_per_second"]
    return [
        ("parameters", f"{result['params']:,}"),
        ("steps", f"{result['step']:,}  ({result['tokens']:,} tokens, {rate:,} a second)"),
        ("estimate", f"train {result['train_estimate']:.4f}   val {result['val_estimate']:.4f}"),
        ("published", _published(result)),
        ("exact val loss", f"{result['val_loss']:.4f}   {result['val_bits_per_char']:.4f} bits a character"),
        ("best", f"{result['best']['val_loss']:.4f} at step {result['best']['step']:,}"),
        ("time", f"{result['train_seconds']:.1f} s training, {result['wall_seconds']:.1f} s in all"),
    ]


def _published(result: dict[str, Any]) -> str:
    published = result["published"]
    if published is None:
        return "nothing for this recipe"
    figures = f"train {published['train']:.4f}   val {published['val']:.4f}"
    at = "" if published["step"] == result["step"] else f" at step {published['step']:,}"
    return f"{figures}{at}   {published['verdict']} (largest difference {published['max_abs_diff']:.4f})"
