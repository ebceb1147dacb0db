"""The page: everything in one file that needs no network."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from gptladder.report.colours import shades
from gptladder.report.counting import Yardstick
from gptladder.report.curves import measured_curve, published_curve
from gptladder.report.maps import attention_maps
from gptladder.report.rows import Row
from gptladder.report.tables import COLUMNS

MEASURES = {"val_estimate": "val estimate", "val_loss": "exact val loss", "train_estimate": "train estimate"}


def html(rows: list[Row], *, title: str, yardstick: Yardstick | None = None) -> str:
    """The whole report; what runs and texts say is escaped wherever it appears."""
    return template("page.html.j2").render(
        title=title,
        rows=rows,
        columns=COLUMNS,
        colours=dict(zip((row.label for row in rows), shades(len(rows)), strict=True)),
        maps=attention_maps(rows),
        measures=MEASURES,
        lines=_lines(rows),
        yardstick=yardstick,
        origins=_origins(rows),
        plotly=get_plotlyjs(),
    )


def _lines(rows: list[Row]) -> list[dict[str, Any]]:
    """What the page's chart draws, for each row and measure."""
    return [
        {
            "label": row.label,
            "colour": colour,
            "measured": {key: [tuple(vars(point).values()) for point in measured_curve(row, key)] for key in MEASURES},
            "published": {key: published_curve(row, key) for key in MEASURES},
        }
        for row, colour in zip(rows, shades(len(rows)), strict=True)
    ]


def _origins(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    """Which command, with which versions, made which runs."""
    origins: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for run in row.readings:
            if command := run.result.get("command"):
                versions = run.result.get("versions") or {}
                said = ", ".join(f"{name} {version}" for name, version in versions.items())
                origins.setdefault((command, said), []).append(run.name)
    return origins


@cache
def template(name: str) -> Template:
    """A page to be filled in, where whatever is filled in is escaped."""
    loader = PackageLoader("gptladder.report", package_path="")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)
