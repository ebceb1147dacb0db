"""The two pictures: how the loss of each rung falls, and where it ends."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gptladder.report.colours import shades
from gptladder.report.counting import Yardstick
from gptladder.report.curves import Point, measured_curve, published_curve
from gptladder.report.rows import Row, Spread

INK, FAINT, HAIR = "#1f2937", "#6b7280", "#d1d5db"
LINE = 0.24  # inches of a label
DOTTED = (0, (0.1, 2.4))
CROWD = 40  # rows: of more, nobody could read all the names and figures
LONGEST = 12  # letters of a name that can stand level


class End(NamedTuple):
    """Where a curve ends, to be named there."""

    label: str
    colour: str
    step: int
    loss: float


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a file."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def curves(rows: list[Row]) -> Figure:
    """The val estimate of all rows against steps: mean and band over seeds, the published curve dotted."""
    figure, axes = canvas(
        "val estimate, nats a character", "published: dotted", 11, max(6.5, LINE * min(len(rows), CROWD) + 1)
    )
    drawn: list[tuple[End, list[Point]]] = []
    for row, colour in zip(rows, shades(len(rows)), strict=True):
        if points := measured_curve(row):
            _draw_curve(axes, points, published_curve(row), colour)
            drawn.append((End(row.label, colour, points[-1].step, points[-1].mean), points))
    axes.set_xlabel("step", color=FAINT, loc="left")
    axes.grid(axis="y", color=HAIR, linewidth=0.5)
    if drawn:
        _frame(axes, [points for _, points in drawn])
        _name(axes, [end for end, _ in drawn])
    return figure


def ladder(rows: list[Row], yardstick: Yardstick | None = None) -> Figure:
    """The last val estimate of each row as a step, its spread over seeds, the published figure as a ring.

    Across them all lies what counting alone comes to.
    """
    figure, axes = canvas(
        "last val estimate, nats a character", "published: ring", min(max(6.0, 0.95 * len(rows)), 0.95 * CROWD), 5
    )
    spreads = [row.spread("val_estimate") if row.finished else None for row in rows]
    steps = [spread if spread and math.isfinite(spread.mean) else None for spread in spreads]
    for place, (row, step, colour) in enumerate(zip(rows, steps, shades(len(rows)), strict=True)):
        below = steps[place - 1] if place else None
        if below and step:
            axes.plot([place - 0.5] * 2, [below.mean, step.mean], color=HAIR, linewidth=1, zorder=1)
        if step:
            _draw_step(axes, place, step, colour, figure_above=len(rows) <= CROWD)
            if row.published:
                axes.plot(place, row.published[1], "o", mfc="white", mec=colour, mew=1.6, markersize=7, zorder=3)
        else:
            axes.text(
                place, 0.5, row.status, transform=axes.get_xaxis_transform(), ha="center", color=FAINT, fontsize=8
            )
    _name_steps(axes, [row.label for row in rows])
    axes.margins(y=0.18)
    if yardstick and yardstick.loss is not None:
        _draw_yardstick(axes, yardstick.label, yardstick.loss)
    return figure


def _draw_curve(axes: Axes, points: list[Point], dots: list[tuple[int, float]], colour: str) -> None:
    steps, means = [point.step for point in points], [point.mean for point in points]
    low, high = ([point.mean + sign * point.std for point in points] for sign in (-1, 1))
    axes.fill_between(steps, low, high, color=colour, alpha=0.22, linewidth=0)
    axes.plot(steps, means, color=colour, linewidth=1.3, marker="o" if len(points) == 1 else "")
    if dots:
        axes.plot(*zip(*dots, strict=True), color=colour, linestyle=DOTTED, linewidth=3.2, dash_capstyle="round")


def _draw_step(axes: Axes, place: int, step: Spread, colour: str, *, figure_above: bool) -> None:
    axes.plot([place - 0.5, place + 0.5], [step.mean] * 2, color=colour, linewidth=3, solid_capstyle="butt", zorder=2)
    if step.std is not None:
        axes.errorbar(place, step.mean, step.std, color=colour, capsize=4, linewidth=1.4)
    if figure_above:
        top = (place, step.mean + (step.std or 0))
        axes.annotate(f"{step.mean:.3f}", top, (0, 8), textcoords="offset points", ha="center", color=INK)


def _name_steps(axes: Axes, labels: list[str]) -> None:
    """Names level where they are short, slanted where they are long, upright in a crowd."""
    level = len(labels) <= CROWD and max(map(len, labels)) <= LONGEST
    slant = 0 if level else 30 if len(labels) <= CROWD else 90
    axes.set_xticks(range(len(labels)), labels, rotation=slant, ha="right" if slant == 30 else "center")
    axes.set_xlim(-0.6, len(labels) - 0.4)


def _draw_yardstick(axes: Axes, label: str, loss: float) -> None:
    axes.axhline(loss, color=FAINT, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    # At the left, where the first rungs are far above it.
    words, at = f"{label}  {loss:.3f}", axes.get_yaxis_transform()
    axes.annotate(words, (0.01, loss), (0, 4), xycoords=at, textcoords="offset points", color=FAINT, fontsize=9.5)


def _frame(axes: Axes, drawn: list[list[Point]]) -> None:
    """Show where the curves part: the first fall from chance is the same for all and would take half the height."""
    ends = [points[-1].mean for points in drawn]
    starts = max(points[0].mean for points in drawn)
    lowest = min(point.mean - point.std for points in drawn for point in points)
    top = min(starts, max(ends) + max(max(ends) - lowest, 0.2))
    margin = 0.04 * (top - lowest) or 0.1
    axes.set_ylim(lowest - margin, top + margin)
    axes.set_xlim(0, max(points[-1].step for points in drawn) or 1)


def _name(axes: Axes, ends: list[End]) -> None:
    """Name every curve at the right edge, as near to its end as its neighbours allow; in a crowd, the best."""
    low, high = axes.get_ylim()
    height = axes.get_figure().get_size_inches()[1]  # type: ignore[union-attr]
    apart = 0.8 * LINE / height * (high - low)
    edge = axes.get_xlim()[1]
    ranked = sorted(ends, key=lambda end: end.loss)[:CROWD]
    for end, at in zip(ranked, _spaced([end.loss for end in ranked], apart), strict=True):
        axes.plot(
            [end.step, edge * 1.012, edge * 1.03],
            [end.loss, end.loss, at],
            color=end.colour,
            linewidth=0.6,
            alpha=0.7,
            clip_on=False,
        )
        axes.text(edge * 1.036, at, f"{end.label}  {end.loss:.3f}", color=end.colour, va="center", fontsize=9.5)


def _spaced(heights: list[float], apart: float) -> list[float]:
    """Rising numbers moved as little as it takes to be ``apart``: groups that touch are centred on their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while (
            len(groups) > 1
            and _centre(groups[-1]) - _centre(groups[-2]) < apart * (len(groups[-1]) + len(groups[-2])) / 2
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_centre(group) + apart * (index - (len(group) - 1) / 2) for group in groups for index in range(len(group))]


def _centre(group: list[float]) -> float:
    return sum(group) / len(group)


def canvas(title: str, legend: str, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart in inches, with what it shows on its left shoulder and how on its right."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=14)
    axes.set_title(legend, loc="right", fontsize=9.5, color=FAINT, pad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIR)
    axes.tick_params(length=0, colors=FAINT, labelsize=9.5)
    return figure, axes
