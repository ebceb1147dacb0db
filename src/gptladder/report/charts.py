"""The two charts: the loss of every row over the steps, and the last loss of every row."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gptladder.report.aggregate import Row
from gptladder.report.curves import NATS, CurvePoint, PublishedPoint, mean_curve, published_curve, scales_and_unit
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.palette import palette
from gptladder.report.statistics import Mean

TEXT_COLOR, MUTED_COLOR, GRID_COLOR = "#1f2937", "#6b7280", "#d1d5db"
LABEL_HEIGHT = 0.24  # inches
DOTTED = (0, (0.1, 2.4))
MAX_LABELED_ROWS = 40  # labels and values of more rows would overlap
MAX_LEVEL_LABEL = 12  # characters; longer labels are slanted
MAX_LABEL = 40  # characters; longer labels are shortened


class CurveEnd(NamedTuple):
    """The last point of a curve, and the label to print next to it."""

    label: str
    color: str
    step: int
    loss: float


def to_png(figure: Figure) -> bytes:
    """Render a figure as the content of a PNG file."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
    return file.getvalue()


def plot_curves(rows: list[Row]) -> Figure:
    """Plot the val estimate over the steps: the mean of the seeds with a band of one standard deviation."""
    height = max(6.5, LABEL_HEIGHT * min(len(rows), MAX_LABELED_ROWS) + 1)
    scales, unit = scales_and_unit(rows)
    published = any(row.published for row in rows) and unit == NATS
    legend = "published: dotted, with what rounding explains" if published else ""
    figure, axes = new_chart(f"val estimate, {unit}", legend, 11, height)
    drawn: list[tuple[CurveEnd, list[CurvePoint]]] = []
    for row, scale, color in zip(rows, scales, palette(len(rows)), strict=True):
        if points := mean_curve(row, scale=scale):
            _draw_curve(axes, points, published_curve(row) if published else [], color)
            drawn.append((CurveEnd(_shorten(row.label), color, points[-1].step, points[-1].mean), points))
    axes.set_xlabel("step", color=MUTED_COLOR, loc="left")
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.5)
    if drawn:
        _set_limits(axes, [points for _, points in drawn])
        _label_curves(axes, [end for end, _ in drawn])
    return figure


def plot_ladder(rows: list[Row], baseline: NGramBaseline) -> Figure:
    """Plot the last val estimate of each row as a step, with its standard deviation and the published value.

    A dashed line across the chart is the n-gram model with as much context as the rows.
    """
    width = min(max(6.0, 0.95 * len(rows)), 0.95 * MAX_LABELED_ROWS)
    scales, unit = scales_and_unit(rows)
    published = any(row.published for row in rows) and unit == NATS
    figure, axes = new_chart(f"last val estimate, {unit}", "published: ring" if published else "", width, 5)
    means = [
        mean.scaled(scale) if row.ended and (mean := row.mean("val_estimate")) else None
        for row, scale in zip(rows, scales, strict=True)
    ]
    losses = [mean if mean and math.isfinite(mean.mean) else None for mean in means]
    for x, (row, loss, color) in enumerate(zip(rows, losses, palette(len(rows)), strict=True)):
        previous = losses[x - 1] if x else None
        if previous and loss:
            axes.plot([x - 0.5] * 2, [previous.mean, loss.mean], color=GRID_COLOR, linewidth=1, zorder=1)
        if loss:
            _draw_step(axes, x, loss, color, with_value=len(rows) <= MAX_LABELED_ROWS)
            if row.published and published:
                axes.plot(x, row.published[1], "o", mfc="white", mec=color, mew=1.6, markersize=7, zorder=3)
        else:
            above_axis = axes.get_xaxis_transform()
            axes.text(x, 0.5, row.status, transform=above_axis, ha="center", color=MUTED_COLOR, fontsize=8)
    _label_steps(axes, [_shorten(row.label) for row in rows])
    axes.margins(y=0.18)
    for ngram in baseline.losses:
        _draw_baseline(axes, ngram.label, ngram.loss if unit == NATS else ngram.bits_per_char)
    return figure


def _draw_curve(axes: Axes, points: list[CurvePoint], dots: list[PublishedPoint], color: str) -> None:
    steps, means = [point.step for point in points], [point.mean for point in points]
    low, high = ([point.mean + sign * point.std for point in points] for sign in (-1, 1))
    axes.fill_between(steps, low, high, color=color, alpha=0.22, linewidth=0)
    axes.plot(steps, means, color=color, linewidth=1.3, marker="o" if len(points) == 1 else "")
    if dots:
        steps = [dot.step for dot in dots]
        axes.plot(
            steps, [dot.loss for dot in dots], color=color, linestyle=DOTTED, linewidth=3.2, dash_capstyle="round"
        )
        low, high = ([dot.loss + sign * dot.tolerance for dot in dots] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=color, alpha=0.1, linewidth=0)


def _draw_step(axes: Axes, x: int, loss: Mean, color: str, *, with_value: bool) -> None:
    axes.plot([x - 0.5, x + 0.5], [loss.mean] * 2, color=color, linewidth=3, solid_capstyle="butt", zorder=2)
    if loss.std is not None:
        axes.errorbar(x, loss.mean, loss.std, color=color, capsize=4, linewidth=1.4)
    if with_value:
        top = (x, loss.mean + (loss.std or 0))
        axes.annotate(f"{loss.mean:.3f}", top, (0, 8), textcoords="offset points", ha="center", color=TEXT_COLOR)


def _label_steps(axes: Axes, labels: list[str]) -> None:
    """Short labels are horizontal, long ones slanted, and very many of them vertical."""
    level = len(labels) <= MAX_LABELED_ROWS and max(map(len, labels)) <= MAX_LEVEL_LABEL
    slant = 0 if level else 30 if len(labels) <= MAX_LABELED_ROWS else 90
    axes.set_xticks(range(len(labels)), labels, rotation=slant, ha="right" if slant == 30 else "center")
    axes.set_xlim(-0.6, len(labels) - 0.4)


def _draw_baseline(axes: Axes, label: str, loss: float) -> None:
    axes.axhline(loss, color=MUTED_COLOR, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    # At the left, where the first rungs are far above the line.
    text, at = f"{label}  {loss:.3f}", axes.get_yaxis_transform()
    axes.annotate(text, (0.01, loss), (0, 4), xycoords=at, textcoords="offset points", color=MUTED_COLOR, fontsize=9.5)


def _set_limits(axes: Axes, drawn: list[list[CurvePoint]]) -> None:
    """Show where the curves differ: the first drop from chance level would take half the height."""
    ends = [points[-1].mean for points in drawn]
    starts = max(points[0].mean for points in drawn)
    lowest = min(point.mean - point.std for points in drawn for point in points)
    top = min(starts, max(ends) + max(max(ends) - lowest, 0.2))
    margin = 0.04 * (top - lowest) or 0.1
    axes.set_ylim(lowest - margin, top + margin)
    axes.set_xlim(0, max(points[-1].step for points in drawn) or 1)


def _label_curves(axes: Axes, ends: list[CurveEnd]) -> None:
    """Label the curves at the right edge, each as near to its end as its neighbors allow; of too many, the best."""
    low, high = axes.get_ylim()
    height = axes.get_figure().get_size_inches()[1]  # type: ignore[union-attr]
    distance = 0.8 * LABEL_HEIGHT / height * (high - low)
    edge = axes.get_xlim()[1]
    ranked = sorted(ends, key=lambda end: end.loss)[:MAX_LABELED_ROWS]
    for end, at in zip(ranked, _spread_out([end.loss for end in ranked], distance), strict=True):
        axes.plot(
            [end.step, edge * 1.012, edge * 1.03],
            [end.loss, end.loss, at],
            color=end.color,
            linewidth=0.6,
            alpha=0.7,
            clip_on=False,
        )
        axes.text(edge * 1.036, at, f"{end.label}  {end.loss:.3f}", color=end.color, va="center", fontsize=9.5)


def _spread_out(heights: list[float], distance: float) -> list[float]:
    """Move ascending numbers as little as needed to be ``distance`` apart: groups are centered on their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], distance):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_mean(group) + distance * (index - (len(group) - 1) / 2) for group in groups for index in range(len(group))]


def _overlap(lower: list[float], upper: list[float], distance: float) -> bool:
    return _mean(upper) - _mean(lower) < distance * (len(lower) + len(upper)) / 2


def _mean(group: list[float]) -> float:
    return sum(group) / len(group)


def _shorten(label: str) -> str:
    """Both ends of a label that is too long for a chart."""
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL // 2]}…{label[1 - MAX_LABEL // 2 :]}"


def new_chart(title: str, legend: str, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart in inches, with the title at its upper left and the legend at its upper right."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12, color=TEXT_COLOR, pad=14)
    axes.set_title(legend, loc="right", fontsize=9.5, color=MUTED_COLOR, pad=14)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID_COLOR)
    axes.tick_params(length=0, colors=MUTED_COLOR, labelsize=9.5)
    return figure, axes
