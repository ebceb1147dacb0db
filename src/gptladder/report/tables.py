"""The table, for people (Markdown, LaTeX, terminal, page) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gptladder.report.rows import Difference, Row, Spread

NOTHING = "—"
COLOURS = {"MATCH": "green", "DRIFT": "yellow", "FAILED": "red"}
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$", "\u2212": "$-$", "—": "--",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A heading, what stands under it, and how soon a narrow terminal does without (the highest first)."""

    heading: str
    text: Callable[[Row], str]
    is_text: bool = False
    dispensable: int = 0


def count(key: str) -> Callable[[Row], str]:
    """A whole number of ``result.json``."""
    return lambda row: figure(row.spread(key), ",.0f", spread=False)


def loss(key: str) -> Callable[[Row], str]:
    """A mean over seeds with its standard deviation."""
    return lambda row: figure(row.spread(key), ".4f")


def figure(value: Spread | None, form: str, *, spread: bool = True) -> str:
    """``2.0681 ± 0.0031``."""
    if value is None:
        return NOTHING
    mean = format(value.mean, form)
    return mean if value.std is None or not spread else f"{mean} ± {value.std:{form}}"


def published(row: Row) -> str:
    """Train and val estimate as published."""
    return NOTHING if row.published is None else "{:.4f} / {:.4f}".format(*row.published)


def largest(row: Row) -> str:
    """The largest difference from the published curve at any point."""
    return NOTHING if row.largest_difference is None else f"{row.largest_difference:.4f}"


def paired(row: Row) -> str:
    """``+0.0921 ± 0.0032``, and whether that is more than chance."""
    return NOTHING if row.difference is None else signed(row.difference)


def signed(difference: Difference) -> str:
    """A difference with a true minus sign."""
    mean = f"{difference.mean:+.4f}".replace("-", "\u2212")
    error = "" if difference.error is None else f" ± {difference.error:.4f}"
    return f"{mean}{error}{' within noise' if difference.within_noise else ''}"


COLUMNS = (
    Column("rung", lambda row: row.label, is_text=True),
    Column("what changed", lambda row: row.changed or NOTHING, is_text=True, dispensable=5),
    Column("parameters", count("params"), dispensable=4),
    Column("seeds", lambda row: str(len(row.measured)), dispensable=4),
    Column("steps", count("step"), dispensable=6),
    Column("tokens", count("tokens"), dispensable=9),
    Column("train estimate", loss("train_estimate"), dispensable=3),
    Column("val estimate", loss("val_estimate")),
    Column("published (train / val)", published, dispensable=2),
    Column("difference", largest, dispensable=2),
    Column("verdict", lambda row: row.status, is_text=True),
    Column("exact val loss", loss("val_loss")),
    Column("bits/char", loss("val_bits_per_char"), dispensable=8),
    Column("to the rung below", paired, dispensable=1),
    Column("seconds", lambda row: figure(row.spread("wall_seconds"), ",.1f", spread=False), dispensable=7),
    Column("tokens/s", count("tokens_per_second"), dispensable=8),
)


def markdown(rows: list[Row], *, note: str = "") -> str:
    """A pipe table, and under it what there is to say of all rows, and what went wrong."""
    lines = [
        "| " + " | ".join(column.heading for column in COLUMNS) + " |",
        "|" + "|".join("---" if column.is_text else "---:" for column in COLUMNS) + "|",
        *("| " + " | ".join(_markdown(column.text(row)) for column in COLUMNS) + " |" for row in rows),
    ]
    failures = [f"- {_markdown(run.name)}: {_markdown(run.last_line)}" for row in rows for run in row.failures]
    notes = ["", _markdown(note)] if note else []
    return "\n".join([*lines, *notes, *(["", "Failed:", "", *failures] if failures else []), ""])


def latex(rows: list[Row]) -> str:
    """A ``booktabs`` table as wide as the text."""
    body = [
        " & ".join(_latex(column.heading) for column in COLUMNS) + r" \\ \midrule",
        *(" & ".join(_latex(column.text(row)) for column in COLUMNS) + r" \\" for row in rows),
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


def comma_separated(rows: list[Row]) -> str:
    """Figures in full precision. Only ``seconds`` and ``tokens_per_second`` differ where nothing learnt does."""
    records = [_record(row) for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def fitted(rows: list[Row], console: Console) -> Table:
    """The table with the columns that the console has room for."""
    columns = list(COLUMNS)
    while True:
        table = _terminal(rows, columns)
        least = max(columns, key=lambda column: column.dispensable)
        wanted = Measurement.get(console, console.options.update(width=10_000), table).maximum
        if not least.dispensable or wanted <= console.width:
            return table
        columns.remove(least)


def _terminal(rows: list[Row], columns: list[Column]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.heading, justify="left" if column.is_text else "right", no_wrap=True)
    for row in rows:
        colour = next((colour for word, colour in COLOURS.items() if word in row.status), "")
        cells = (Text(column.text(row), colour if column.heading == "verdict" else "") for column in columns)
        table.add_row(*cells)
    return table


def _record(row: Row) -> dict[str, object]:
    train, val = row.published or (None, None)
    difference = row.difference
    return {
        "rung": row.rung,
        "label": row.label,
        "changed": row.changed,
        "seeds": " ".join(str(reading.seed) for reading in row.measured),
        **_means(row, "params", "step", "tokens"),
        **_means(row, "train_estimate", "val_estimate", with_std=True),
        "published_train": train,
        "published_val": val,
        "largest_difference": row.largest_difference,
        "status": row.status,
        **_means(row, "val_loss", "val_bits_per_char", with_std=True),
        "to_reference": difference and difference.mean,
        "to_reference_error": difference and difference.error,
        "within_noise": difference and difference.within_noise,
        "seconds": _means(row, "wall_seconds")["wall_seconds"],
        **_means(row, "tokens_per_second"),
    }


def _means(row: Row, *keys: str, with_std: bool = False) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for key in keys:
        spread = row.spread(key)
        values[key] = _plain(spread.mean) if spread else None
        if with_std:
            values[f"{key}_std"] = spread.std if spread else None
    return values


def _plain(number: float) -> float:
    """A count without the point and the nought that averaging gave it."""
    return int(number) if number.is_integer() else number


def _markdown(text: str) -> str:
    """One cell, whatever is in it: no line ends, no bars, no tags."""
    return " ".join(text.replace("<", "&lt;").replace("|", "\\|").split())


def _latex(text: str) -> str:
    return re.sub(".", lambda match: TEX.get(match[0], match[0]), " ".join(text.split()))
