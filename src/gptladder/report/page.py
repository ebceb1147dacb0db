"""The HTML page: the whole report in one file that needs no network."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from gptladder.report.aggregate import Row
from gptladder.report.attention import attention_images
from gptladder.report.columns import COLUMNS, baseline_cell, explain_verdict, table_notes
from gptladder.report.curves import NATS, mean_curve, published_curve, scales_and_unit
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.palette import palette

CHART_METRICS = {"val_estimate": "val estimate", "val_loss": "exact val loss", "train_estimate": "train estimate"}


def render_page(rows: list[Row], baseline: NGramBaseline, *, title: str) -> str:
    """The whole page; every text from a run is escaped."""
    scales, unit = scales_and_unit(rows)
    return load_template("page.html.j2").render(
        title=title,
        rows=rows,
        columns=COLUMNS,
        colors=dict(zip((row.label for row in rows), palette(len(rows)), strict=True)),
        baseline_cell=baseline_cell,
        explain_verdict=explain_verdict,
        notes=[*table_notes(rows), baseline.note],
        attention=attention_images(rows),
        metrics=CHART_METRICS,
        lines=_chart_lines(rows, scales, unit),
        unit=unit,
        baseline=baseline,
        baseline_lines=[
            {"label": loss.label, "loss": loss.loss if unit == NATS else loss.bits_per_char} for loss in baseline.losses
        ],
        commands=_commands(rows),
        plotly=get_plotlyjs(),
    )


def _chart_lines(rows: list[Row], scales: list[float], unit: str) -> list[dict[str, Any]]:
    """The curves of each row, by metric."""
    return [
        {
            "label": row.label,
            "color": color,
            "measured": {
                key: [tuple(vars(point).values()) for point in mean_curve(row, key, scale=scale)]
                for key in CHART_METRICS
            },
            "published": {
                key: [tuple(point) for point in published_curve(row, key)] if unit == NATS else []
                for key in CHART_METRICS
            },
        }
        for row, scale, color in zip(rows, scales, palette(len(rows)), strict=True)
    ]


def _commands(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    """The names of the runs by the command that started them and the versions that it ran with."""
    commands: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for run in row.runs:
            if command := run.result.get("command"):
                versions = run.result.get("versions") or {}
                text = ", ".join(f"{name} {version}" for name, version in versions.items())
                commands.setdefault((command, text), []).append(row.run_name(run))
    return commands


@cache
def load_template(name: str) -> Template:
    """A template of this package, which escapes everything that is inserted."""
    loader = PackageLoader("gptladder.report", package_path="")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)
