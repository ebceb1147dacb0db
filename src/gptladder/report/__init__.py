"""The report: tables, charts and one HTML page, made from run directories alone."""
# ruff: noqa: E402

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

# Set before matplotlib is imported: it logs that it builds a font cache, and Hydra's root logger would print that.
logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)

from gptladder.report.aggregate import Row, group_runs
from gptladder.report.charts import plot_curves, plot_ladder, to_png
from gptladder.report.columns import table_notes
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import NGramBaseline, compute_ngram_baseline
from gptladder.report.page import render_page
from gptladder.report.tables import csv_table, latex_table, markdown_table, table_cell, terminal_table
from gptladder.system.callable_package import make_callable
from gptladder.system.errors import UserError
from gptladder.system.files import write_files

__all__ = ["FILES", "Report", "Row", "show_report", "write_report"]

make_callable(__name__)  # `gptladder.report(directory)` writes one

FILES = ("table.md", "table.csv", "table.tex", "curves.png", "ladder.png", "report.html")


@dataclass(frozen=True, repr=False)
class Report:
    """The rows of a table, the n-gram model that they are compared with, and the page that shows them."""

    rows: list[Row]
    baseline: NGramBaseline
    page: Path = Path("report.html")

    def __repr__(self) -> str:
        return f"Report({len(self.rows)} rows, {str(self.page)!r})"

    def _repr_html_(self) -> str:
        return table_cell(self.rows, self.baseline, self.page)


def write_report(directory: Path, out: Path | None = None) -> Report:
    """Write tables, charts and page of all runs in ``directory``, at any depth.

    Args:
        directory: where the runs are; some may still be running.
        out: where the ``FILES`` go; ``directory`` itself by default.

    Raises:
        UserError: there is no such directory, or no run in it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: name one that contains runs")
    rows = group_runs(load_runs(directory))
    if not rows:
        raise UserError(f"no runs found in {directory}: each run writes a result.json")
    baseline = compute_ngram_baseline(rows)
    title = directory.resolve().name
    files = {
        "table.md": markdown_table(rows, baseline).encode(),
        "table.csv": csv_table(rows, baseline).encode(),
        "table.tex": latex_table(rows, baseline).encode(),
        "curves.png": to_png(plot_curves(rows)),
        "ladder.png": to_png(plot_ladder(rows, baseline)),
        "report.html": render_page(rows, baseline, title=title).encode(),
    }
    write_files(files, out or directory)
    return Report(rows, baseline, (out or directory) / "report.html")


def show_report(report: Report, console: Console) -> None:
    """Print the table, with as many of its columns as fit the console, and the errors of failed runs."""
    console.print(terminal_table(report.rows, report.baseline, console.width))
    for note in table_notes(report.rows):
        console.print(Text(note, "dim"))
    for row in report.rows:
        for run in row.failures:
            console.print(Text(f"{run.status.upper()} {row.run_name(run)}: {run.error_summary}", "red"))
