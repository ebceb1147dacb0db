"""The table of the rows as Markdown, LaTeX, CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from gptladder.report.aggregate import Row, shared_settings
from gptladder.report.statistics import MeanStd, PairedDifference

MISSING = "—"
MINUS = "\u2212"
STATUS_COLORS = {"MATCH": "green", "DRIFT": "yellow", "FAILED": "red"}
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$", MINUS: "$-$", "—": "--",
}  # fmt: skip
GAP = 2  # characters between two columns of the terminal


@dataclass(frozen=True)
class Column:
    """A heading and its cells.

    A narrow terminal drops the columns with the highest ``drop_priority`` first, those with 0 never. Cells wrap down to
    ``min_width`` characters, without one to the longest word of a text and not at all in a number.
    """

    heading: str
    text: Callable[[Row], str]
    is_text: bool = False
    min_width: int = 0
    drop_priority: int = 0


def format_count(key: str) -> Callable[[Row], str]:
    """A whole number of ``result.json``."""
    return lambda row: format_mean(row.mean_std(key), ",.0f", with_std=False)


def format_loss(key: str) -> Callable[[Row], str]:
    """A mean over seeds with its standard deviation."""
    return lambda row: format_mean(row.mean_std(key), ".4f")


def format_mean(value: MeanStd | None, form: str, *, with_std: bool = True) -> str:
    """``2.0681 ± 0.0031``."""
    if value is None:
        return MISSING
    mean = format(value.mean, form)
    return mean if value.std is None or not with_std else f"{mean} ± {value.std:{form}}"


def format_published(row: Row) -> str:
    """The published train and val estimate."""
    return MISSING if row.published is None else "{:.4f} / {:.4f}".format(*row.published)


def format_max_difference(row: Row) -> str:
    """The largest difference from the published curve."""
    return MISSING if row.max_difference is None else f"{row.max_difference:.4f}"


def format_difference(difference: PairedDifference | None) -> str:
    """``+0.0921 ± 0.0112 (p=0.003)``, with half the 95 % confidence interval."""
    if difference is None:
        return MISSING
    mean = f"{difference.mean:+.4f}".replace("-", MINUS)
    if difference.half_width is None:
        return mean
    p = "p<0.001" if difference.p is not None and difference.p < 0.001 else f"p={difference.p:.3f}"
    return f"{mean} ± {difference.half_width:.4f}{' within noise' if difference.within_noise else ''} ({p})"


COLUMNS = (
    Column("rung", lambda row: row.label, is_text=True, min_width=12),
    Column("what changed", lambda row: row.what_changed or MISSING, is_text=True, min_width=28, drop_priority=2),
    Column("parameters", format_count("params"), drop_priority=5),
    Column("seeds", lambda row: str(len(row.representative)), drop_priority=5),
    Column("steps", format_count("step"), drop_priority=6),
    Column("tokens", format_count("tokens"), drop_priority=9),
    Column("train estimate", format_loss("train_estimate"), drop_priority=4),
    Column("val estimate", format_loss("val_estimate")),
    Column("published (train / val)", format_published, drop_priority=3),
    Column("difference", format_max_difference, drop_priority=3),
    Column("verdict", lambda row: row.status, is_text=True),
    Column("exact val loss", format_loss("val_loss")),
    Column("bits/char", format_loss("val_bits_per_char"), drop_priority=8),
    # as wide as "within noise (p=0.123)", which is the second line in a narrow terminal
    Column("to the rung below", lambda row: format_difference(row.difference), min_width=22, drop_priority=1),
    Column("seconds", lambda row: format_mean(row.mean_std("wall_seconds"), ",.1f", with_std=False), drop_priority=7),
    Column("tokens/s", format_count("tokens_per_second"), drop_priority=8),
)


def markdown_table(rows: list[Row], *, note: str = "") -> str:
    """A table in Markdown, followed by notes on all rows, and the errors of failed runs."""
    lines = [
        "| " + " | ".join(column.heading for column in COLUMNS) + " |",
        "|" + "|".join("---" if column.is_text else "---:" for column in COLUMNS) + "|",
        *("| " + " | ".join(_escape_markdown(column.text(row)) for column in COLUMNS) + " |" for row in rows),
    ]
    shared = shared_settings(rows)
    notes = [f"All runs: {' '.join(shared)}"] if shared else []
    notes += [note] if note else []
    failures = [
        f"- {_escape_markdown(row.run_name(run))}: {_escape_markdown(run.error_summary)}"
        for row in rows
        for run in row.failures
    ]
    paragraphs = [line for note in notes for line in ("", _escape_markdown(note))]
    return "\n".join([*lines, *paragraphs, *(["", "Failed:", "", *failures] if failures else []), ""])


def latex_table(rows: list[Row]) -> str:
    """A ``booktabs`` table as wide as the text."""
    body = [
        " & ".join(_escape_latex(column.heading) for column in COLUMNS) + r" \\ \midrule",
        *(" & ".join(_escape_latex(column.text(row)) for column in COLUMNS) + r" \\" for row in rows),
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
            "",
        ]
    )


def csv_table(rows: list[Row]) -> str:
    """All values in full precision. Two trainings of the same runs differ only in seconds and tokens per second."""
    records = [_csv_record(row) for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def terminal_table(rows: list[Row], width: int) -> Table:
    """The table with the columns that fit into ``width`` characters; text wraps, numbers are never cut."""
    columns = list(COLUMNS)
    while (spare := width - sum(_min_width(column, rows) + GAP for column in columns) + GAP) < 0:
        first = max(columns, key=lambda column: column.drop_priority)
        if not first.drop_priority:
            break
        columns.remove(first)
    table = Table(box=None, header_style="dim", padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        min_width = _min_width(column, rows)
        extra = _natural_width(column, rows) - min_width
        if extra > spare:
            extra = max(spare, 0) if column.is_text else 0
        spare -= extra
        table.add_column(
            column.heading,
            justify="left" if column.is_text else "right",
            width=min_width + extra,
            overflow="fold",
        )
    for row in rows:
        color = next((color for word, color in STATUS_COLORS.items() if word in row.status), "")
        table.add_row(*(Text(column.text(row), color if column.heading == "verdict" else "") for column in columns))
    return table


def _natural_width(column: Column, rows: list[Row]) -> int:
    return max(len(text) for text in (column.heading, *(column.text(row) for row in rows)))


def _min_width(column: Column, rows: list[Row]) -> int:
    """The width of the longest number, or of the longest word of a text; headings wrap at words."""
    cells = [column.text(row) for row in rows]
    if column.min_width:
        return min(column.min_width, _natural_width(column, rows))
    pieces = [word for cell in cells for word in cell.split()] if column.is_text else cells
    return max(len(piece) for piece in (*column.heading.split(), *pieces))


def _csv_record(row: Row) -> dict[str, object]:
    train, val = row.published or (None, None)
    difference = row.difference
    low, high = None, None
    if difference and difference.half_width is not None:
        low, high = difference.mean - difference.half_width, difference.mean + difference.half_width
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
        "largest_difference": row.max_difference,
        "status": row.status,
        **_means(row, "val_loss", "val_bits_per_char", with_std=True),
        "to_reference": difference and difference.mean,
        "to_reference_error": difference and difference.error,
        "to_reference_low": low,
        "to_reference_high": high,
        "to_reference_p": difference and difference.p,
        "within_noise": difference and difference.within_noise,
        "seconds": _means(row, "wall_seconds")["wall_seconds"],
        **_means(row, "tokens_per_second"),
    }


def _means(row: Row, *keys: str, with_std: bool = False) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key in keys:
        value = row.mean_std(key)
        values[key] = _as_int(value.mean) if value else None
        if with_std:
            values[f"{key}_std"] = value.std if value else None
    return values


def _as_int(number: float) -> float:
    """A count as an integer; a mean is a float even of equal counts."""
    return int(number) if number.is_integer() else number


def _escape_markdown(text: str) -> str:
    """Escape what would end a cell or start a tag; line breaks become spaces."""
    return " ".join(text.replace("<", "&lt;").replace("|", "\\|").split())


def _escape_latex(text: str) -> str:
    return re.sub(".", lambda match: LATEX_ESCAPES.get(match[0], match[0]), " ".join(text.split()))
