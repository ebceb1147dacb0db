"""The report: what a directory of runs came to, from their records alone."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from gptladder.report.charts import curves, ladder, png
from gptladder.report.collect import collect
from gptladder.report.counting import yardstick
from gptladder.report.page import html
from gptladder.report.rows import Row, arranged
from gptladder.report.tables import comma_separated, fitted, latex, markdown
from gptladder.system.errors import UserError
from gptladder.system.files import write_files

__all__ = ["FILES", "Row", "show_report", "write_report"]

FILES = ("table.md", "table.csv", "table.tex", "curves.png", "ladder.png", "report.html")


def write_report(directory: Path, out: Path | None = None) -> list[Row]:
    """Write tables, pictures and page of all runs in ``directory``, at any depth.

    Args:
        directory: where runs are; some may still be running.
        out: where the ``FILES`` go; into ``directory`` itself if not given.

    Raises:
        UserError: there is no such directory, or no run in it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"there is no directory {directory}: name one that holds runs")
    rows = arranged(collect(directory))
    if not rows:
        raise UserError(f"there is no run in {directory}: no result.json in it was written by train.py")
    counts = yardstick(rows)
    title = directory.resolve().name
    made = {
        "table.md": markdown(rows, note=counts.note).encode(),
        "table.csv": comma_separated(rows).encode(),
        "table.tex": latex(rows).encode(),
        "curves.png": png(curves(rows)),
        "ladder.png": png(ladder(rows, counts)),
        "report.html": html(rows, title=title, yardstick=counts).encode(),
    }
    write_files(made, out or directory)
    return rows


def show_report(rows: list[Row], console: Console) -> None:
    """Print the table, as many of its columns as the console is wide, and what went wrong."""
    console.print(fitted(rows, console))
    for row in rows:
        for reading in row.failures:
            console.print(f"{reading.status.upper()} {reading.name}: {reading.last_line}", style="red", markup=False)
