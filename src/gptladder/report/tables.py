"""The table as Markdown, LaTeX, CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gptladder.report.aggregate import Row
from gptladder.report.columns import COLUMNS, MINUS, MISSING, Column, baseline_cell, table_columns, table_notes
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.page import load_template
from gptladder.system.errors import printable

STATUS_COLORS = {"MATCH": "green", "DRIFT": "yellow", "FAILED": "red"}
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$", MINUS: "$-$", "—": "--",
    "≤": r"$\le$", ">": "$>$", "<": "$<$",
}  # fmt: skip
MAX_CELL_PRIORITY = 6  # a notebook leaves out the columns that a terminal drops first
GAP = 2  # characters between two columns of the terminal


def _cells(rows: list[Row], baseline: NGramBaseline, columns: Sequence[Column] = COLUMNS) -> list[list[str]]:
    """The text of all cells, row by row."""
    return [
        *([column.text(row) for column in columns] for row in rows),
        *([baseline_cell(column, loss) for column in columns] for loss in baseline.losses),
    ]


def markdown_lines(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [
        "| " + " | ".join(column.heading for column in columns) + " |",
        "|" + "|".join("---" if column.is_text else "---:" for column in columns) + "|",
        *("| " + " | ".join(map(_escape_markdown, texts)) + " |" for texts in cells),
    ]


def markdown_table(rows: list[Row], baseline: NGramBaseline) -> str:
    """A table in Markdown, followed by notes on all rows, and the errors of failed runs."""
    lines = markdown_lines(COLUMNS, _cells(rows, baseline))
    failures = [
        f"- {_escape_markdown(row.run_name(run))}: {_escape_markdown(run.error_summary)}"
        for row in rows
        for run in row.failures
    ]
    notes = [*table_notes(rows), baseline.note]
    paragraphs = [line for note in notes for line in ("", _escape_markdown(note))]
    return "\n".join([*lines, *paragraphs, *(["", "Failed:", "", *failures] if failures else []), ""])


def table_cell(rows: list[Row], baseline: NGramBaseline, page: Path) -> str:
    """The table for a notebook, without the empty columns, followed by the notes and the path of the page."""
    lines = [list(zip(COLUMNS, cells, strict=True)) for cells in _cells(rows, baseline)]
    shown = [
        column for column, *cells in zip(COLUMNS, *lines, strict=True) if any(text != MISSING for _, text in cells)
    ]
    shown = [column for column in shown if column.drop_priority <= MAX_CELL_PRIORITY]
    return load_template("table_cell.html.j2").render(
        columns=shown,
        rows=[[(column, text) for column, text in line if column in shown] for line in lines],
        notes=[*table_notes(rows), baseline.note],
        page=str(page),
    )


def latex_table(rows: list[Row], baseline: NGramBaseline) -> str:
    """A ``booktabs`` table as wide as the text, with the notes below it."""
    body = [
        " & ".join(_escape_latex(column.heading) for column in COLUMNS) + r" \\ \midrule",
        *(" & ".join(map(_escape_latex, cells)) + r" \\" for cells in _cells(rows, baseline)),
    ]
    alignment = "".join("l" if column.is_text else "r" for column in COLUMNS)
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\footnotesize {_escape_latex(note)}" for note in (*table_notes(rows), baseline.note)),
            "",
        ]
    )


def csv_table(rows: list[Row], baseline: NGramBaseline) -> str:
    """All values in full precision; ``p_value`` is not corrected, ``p_corrected`` is.

    Two trainings of the same runs differ only in seconds and tokens per second.
    """
    records = [_csv_record(row) for row in rows]
    records += [
        {"rung": loss.label, "label": loss.label, "description": loss.description, "val_loss": loss.loss}
        | {"val_bits_per_char": loss.bits_per_char}
        for loss in baseline.losses
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _as_text(value) for key, value in record.items()} for record in records)
    return file.getvalue()


def terminal_table(rows: list[Row], baseline: NGramBaseline, width: int) -> Table:
    """The table with the columns that fit into ``width`` characters; text wraps, numbers are never cut."""
    columns = list(table_columns(rows))
    texts = dict(zip(columns, zip(*_cells(rows, baseline), strict=True), strict=True))  # of each column, row by row
    while (spare := width - sum(_min_width(column, texts[column]) + GAP for column in columns) + GAP) < 0:
        first = max(columns, key=lambda column: column.drop_priority)
        if not first.drop_priority:
            break
        columns.remove(first)
    table = Table(box=None, header_style="dim", padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        min_width = _min_width(column, texts[column])
        extra = _natural_width(column, texts[column]) - min_width
        if extra > spare:
            extra = max(spare, 0) if column.is_text else 0
        spare -= extra
        table.add_column(
            column.heading,
            justify="left" if column.is_text else "right",
            width=min_width + extra,
            overflow="fold",
        )
    for cells in zip(*(texts[column] for column in columns), strict=True):
        verdict = cells[[column.heading for column in columns].index("verdict")]
        color = next((color for word, color in STATUS_COLORS.items() if word in verdict), "")
        table.add_row(*(Text(printable(cell), color if cell is verdict else "") for cell in cells))
    return table


def _natural_width(column: Column, cells: Sequence[str]) -> int:
    return max(len(text) for text in (column.heading, *cells))


def _min_width(column: Column, cells: Sequence[str]) -> int:
    """The width of the longest number, or of the longest word of a text; headings wrap at words."""
    if column.min_width:
        return min(column.min_width, _natural_width(column, cells))
    pieces = [word for cell in cells for word in cell.split()] if column.is_text else cells
    return max(len(piece) for piece in (*column.heading.split(), *pieces))


def _as_text(value: object) -> object:
    """A value that a spreadsheet does not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _csv_record(row: Row) -> dict[str, object]:
    train, val = row.published or (None, None)
    point, difference = row.worst_point or {}, row.difference
    low, high = (difference and difference.interval) or (None, None)
    return {
        "rung": row.rung,
        "label": row.name,
        "description": row.description,
        "changed": row.changed_keys,
        "seeds": " ".join(str(run.seed) for run in row.representative),
        **_means(row, "params", "step", "tokens"),
        **_means(row, "train_estimate", "val_estimate", with_std=True),
        "published_train": train,
        "published_val": val,
        "largest_difference": point.get("worst_abs_diff", point.get("max_abs_diff")),
        "tolerance": point.get("tolerance"),
        "status": row.status,
        **_means(row, "val_loss", "val_bits_per_char", with_std=True, with_interval=True),
        "difference": difference and difference.mean,
        "ci_low": low,
        "ci_high": high,
        "p_value": difference and difference.p,
        "p_corrected": difference and difference.p_corrected,
        "n_pairs": difference and difference.n,
        "within_noise": difference and difference.within_noise,
        "seconds": _means(row, "wall_seconds")["wall_seconds"],
        **_means(row, "tokens_per_second"),
    }


def _means(row: Row, *keys: str, with_std: bool = False, with_interval: bool = False) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key in keys:
        value = row.mean(key)
        values[key] = _as_int(value.mean) if value else None
        if with_std:
            values[f"{key}_std"] = value.std if value else None
        if with_interval:
            values[f"{key}_ci_low"], values[f"{key}_ci_high"] = (value and value.interval) or (None, None)
    return values


def _as_int(number: float) -> float:
    """A count as an integer; a mean is a float even of equal counts."""
    return int(number) if number.is_integer() else number


def _escape_markdown(text: str) -> str:
    """Escape what would end a cell or start a tag; line breaks become spaces."""
    return " ".join(text.replace("<", "&lt;").replace("|", "\\|").split())


def _escape_latex(text: str) -> str:
    return re.sub(".", lambda match: LATEX_ESCAPES.get(match[0], match[0]), " ".join(text.split()))
