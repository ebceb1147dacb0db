"""The table of the rows as Markdown, LaTeX, CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from gptladder.report.aggregate import Row, shared_settings
from gptladder.report.ngram_baseline import NGramBaseline, NGramLoss
from gptladder.report.statistics import Mean, PairedDifference

MISSING = "—"
MINUS = "\u2212"
STATUS_COLORS = {"MATCH": "green", "DRIFT": "yellow", "FAILED": "red"}
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$", MINUS: "$-$", "—": "--",
    "≤": r"$\le$", ">": "$>$", "<": "$<$",
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


def format_interval(key: str) -> Callable[[Row], str]:
    """A mean over seeds with half of its 95 % confidence interval."""

    def text(row: Row) -> str:
        value = row.mean_std(key)
        if value is None:
            return MISSING
        return f"{value.mean:.4f}" if value.half_width is None else f"{value.mean:.4f} ± {value.half_width:.4f}"

    return text


def format_mean(value: Mean | None, form: str, *, with_std: bool = True) -> str:
    """``2.0681 ± 0.0031``."""
    if value is None:
        return MISSING
    mean = format(value.mean, form)
    return mean if value.std is None or not with_std else f"{mean} ± {value.std:{form}}"


def format_published(row: Row) -> str:
    """The published train and val estimate."""
    return MISSING if row.published is None else "{:.4f} / {:.4f}".format(*row.published)


def format_worst_point(row: Row) -> str:
    """``0.0246 ≤ 0.0781``: the difference from the published curve at the worst point, and the tolerance there."""
    point = row.worst_point
    if point is None:
        return MISSING
    if not {"worst_abs_diff", "tolerance"} <= point.keys():  # recorded by version 0.1
        return f"{point['max_abs_diff']:.4f}"
    sign = ">" if "DRIFT" in row.verdicts else "≤"
    return f"{point['worst_abs_diff']:.4f} {sign} {point['tolerance']:.4f}"


def format_difference(difference: PairedDifference | None) -> str:
    """``+0.0921 ± 0.0112 (p=0.003, n=10)``, with half the 95 % confidence interval, or ``+0.0921 one seed``."""
    if difference is None:
        return MISSING
    values = difference.values
    mean = f"{values.mean:+.4f}".replace("-", MINUS)
    if values.half_width is None:
        return f"{mean} one seed"
    noise = " within noise" if difference.within_noise else ""
    return f"{mean} ± {values.half_width:.4f}{noise} (p{format_p(difference.p_corrected)}, n={values.n})"


def format_p(p: float | None) -> str:
    """``=0.012``, or ``<0.001``."""
    return "=—" if p is None else "<0.001" if p < 0.001 else f"={p:.3f}"


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
    Column("largest difference", format_worst_point, drop_priority=3),
    Column("verdict", lambda row: row.status, is_text=True),
    Column("exact val loss", format_interval("val_loss")),
    Column("bits/char", format_interval("val_bits_per_char"), drop_priority=8),
    # as wide as "+0.0921 ± 0.0112 within", the first line in a narrow terminal
    Column("to the rung below", lambda row: format_difference(row.difference), min_width=23, drop_priority=1),
    Column("seconds", lambda row: format_mean(row.mean_std("wall_seconds"), ",.1f", with_std=False), drop_priority=7),
    Column("tokens/s", format_count("tokens_per_second"), drop_priority=8),
)


def baseline_cell(column: Column, baseline: NGramLoss) -> str:
    """The cell of an n-gram model, which is the last row of a table."""
    cells = {
        "rung": baseline.label,
        "what changed": baseline.description,
        "exact val loss": f"{baseline.loss:.4f}",
        "bits/char": f"{baseline.bits_per_char:.4f}",
    }
    return cells.get(column.heading, MISSING)


def table_notes(rows: list[Row]) -> list[str]:
    """What a reader must know about the numbers of a table."""
    shared = shared_settings(rows)
    has_seeds = any(len(row.representative) > 1 for row in rows)
    n_tests = sum(row.difference is not None and row.difference.p_corrected is not None for row in rows)
    notes = {
        f"All runs: {' '.join(shared)}": bool(shared),
        "Estimates: mean ± standard deviation over seeds. Exact val loss and bits/char: mean ± half the 95 % "
        "confidence interval (Student's t).": has_seeds,
        "Largest difference from the published curve ≤ what rounding explains at that point.": any(
            row.worst_point for row in rows
        ),
        "To the rung below: the difference of the exact val loss, paired by seed, ± half the 95 % confidence interval "
        "(Student's t); within noise: the interval contains zero.": n_tests > 0,
        f"p-values are corrected for {n_tests} comparisons (Holm).": n_tests > 1,
    }
    return [note for note, applies in notes.items() if applies]


def _cells(rows: list[Row], baseline: NGramBaseline, columns: Sequence[Column] = COLUMNS) -> list[list[str]]:
    """The text of all cells, row by row."""
    return [
        *([column.text(row) for column in columns] for row in rows),
        *([baseline_cell(column, loss) for column in columns] for loss in baseline.losses),
    ]


def markdown_table(rows: list[Row], baseline: NGramBaseline) -> str:
    """A table in Markdown, followed by notes on all rows, and the errors of failed runs."""
    lines = [
        "| " + " | ".join(column.heading for column in COLUMNS) + " |",
        "|" + "|".join("---" if column.is_text else "---:" for column in COLUMNS) + "|",
        *("| " + " | ".join(map(_escape_markdown, cells)) + " |" for cells in _cells(rows, baseline)),
    ]
    failures = [
        f"- {_escape_markdown(row.run_name(run))}: {_escape_markdown(run.error_summary)}"
        for row in rows
        for run in row.failures
    ]
    notes = [*table_notes(rows), baseline.note]
    paragraphs = [line for note in notes for line in ("", _escape_markdown(note))]
    return "\n".join([*lines, *paragraphs, *(["", "Failed:", "", *failures] if failures else []), ""])


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
    writer.writerows(records)
    return file.getvalue()


def terminal_table(rows: list[Row], baseline: NGramBaseline, width: int) -> Table:
    """The table with the columns that fit into ``width`` characters; text wraps, numbers are never cut."""
    columns = list(COLUMNS)
    texts = dict(zip(COLUMNS, zip(*_cells(rows, baseline), strict=True), strict=True))  # of each column, row by row
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
        table.add_row(*(Text(cell, color if cell is verdict else "") for cell in cells))
    return table


def _natural_width(column: Column, cells: Sequence[str]) -> int:
    return max(len(text) for text in (column.heading, *cells))


def _min_width(column: Column, cells: Sequence[str]) -> int:
    """The width of the longest number, or of the longest word of a text; headings wrap at words."""
    if column.min_width:
        return min(column.min_width, _natural_width(column, cells))
    pieces = [word for cell in cells for word in cell.split()] if column.is_text else cells
    return max(len(piece) for piece in (*column.heading.split(), *pieces))


def _csv_record(row: Row) -> dict[str, object]:
    train, val = row.published or (None, None)
    point, difference = row.worst_point or {}, row.difference
    low, high = (difference and difference.values.interval) or (None, None)
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
        "difference": difference and difference.values.mean,
        "ci_low": low,
        "ci_high": high,
        "p_value": difference and difference.p,
        "p_corrected": difference and difference.p_corrected,
        "n_pairs": difference and difference.values.n,
        "within_noise": difference and difference.within_noise,
        "seconds": _means(row, "wall_seconds")["wall_seconds"],
        **_means(row, "tokens_per_second"),
    }


def _means(row: Row, *keys: str, with_std: bool = False, with_interval: bool = False) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key in keys:
        value = row.mean_std(key)
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
