"""The plots of the tour: heatmaps, bars, lines, and blocks with their examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from gptladder.evaluation.attention_maps import DEEP, MIDDLE, PALE
from gptladder.report.charts import GRID_COLOR, MUTED_COLOR, TEXT_COLOR
from gptladder.report.palette import palette

BLUES = LinearSegmentedColormap.from_list("weights", [[part / 255 for part in c] for c in (PALE, MIDDLE, DEEP)])
MAX_NUMBERED_ROWS = 10  # a heatmap with more rows does not print its values
COMPARISON_COLUMNS = 3
MAX_LARGE_LABELS = 20  # more labels get a small font


def printable(character: str) -> str:
    """Make white space and control characters visible."""
    return "␣" if character == " " else repr(character)[1:-1]


def plot_heatmaps(
    panels: Mapping[str, Tensor],
    labels: Sequence[str],
    row_labels: Sequence[str] | None = None,
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Plot matrices side by side: large values are dark, zeros white; small matrices show their values.

    Rows have the labels of the columns unless they are given labels of their own.
    """
    crowded = len(labels) > MAX_LARGE_LABELS
    side = 7.2 if crowded else 3.6
    figure = _new_figure(side * len(panels), side + 0.5)
    for axes, (title, matrix) in zip(_subplots(figure, len(panels)), panels.items(), strict=True):
        _set_title(axes, title)
        axes.imshow(matrix.where(matrix != 0, float("nan")).numpy(), cmap=BLUES, vmin=0, vmax=float(matrix.max()))
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(len(labels)), labels, fontsize=6 if crowded else 9)
        axes.set_yticks(range(len(matrix)), row_labels or labels, fontsize=6 if crowded else 9)
        _name_axes(axes, xlabel, ylabel)
        if len(matrix) <= MAX_NUMBERED_ROWS:
            _print_values(axes, matrix)
    return figure


def plot_bars(labels: Sequence[str], panels: Mapping[str, Sequence[float]], *, xlabel: str, ylabel: str) -> Figure:
    """Plot vertical bars, one panel per series, on a common scale."""
    figure = _new_figure(max(2.7 * len(panels), 0.19 * len(labels) * len(panels)), 3.2)
    for axes, (title, values), color in zip(
        _subplots(figure, len(panels), share_y=True), panels.items(), palette(len(panels)), strict=True
    ):
        _set_title(axes, title)
        axes.bar(range(len(values)), values, color=color, width=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xticks(range(len(labels)), labels, fontsize=9 if len(labels) <= MAX_LARGE_LABELS else 7)
        axes.set_xlim(-0.7, len(labels) - 0.3)
        _name_axes(axes, xlabel, ylabel)
    return figure


def plot_lines(
    title: str,
    lines: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    x: Sequence[float] | None = None,
) -> Figure:
    """Plot values against steps or layers, counted from 0 unless ``x`` is given; a legend names several lines."""
    figure = _new_figure(7, 3.8)
    axes = figure.subplots()
    _set_title(axes, title)
    axes.set_yscale("log" if log else "linear")
    for (name, values), color in zip(lines.items(), palette(len(lines)), strict=True):
        axes.plot(
            range(len(values)) if x is None else x,
            values,
            color=color,
            linewidth=0.8 if len(values) > 10 else 1.8,
            label=name,
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.5)
    _name_axes(axes, xlabel, ylabel)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=TEXT_COLOR)
    return figure


def plot_arrows(panels: Mapping[str, Tensor]) -> Figure:
    """Plot vectors of two coordinates from the origin, ``(T, 2)`` per panel; the first is dark, later ones are pale."""
    figure = _new_figure(3.4 * len(panels), 3.6)
    for axes, (title, vectors) in zip(_subplots(figure, len(panels)), panels.items(), strict=True):
        _set_title(axes, title)
        for position, (x, y) in reversed(list(enumerate(vectors.tolist()))):
            color = BLUES(1 - 0.75 * position / len(vectors))
            axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": color, "lw": 1.4})
            axes.text(1.16 * x, 1.16 * y, str(position), ha="center", va="center", fontsize=8, color=TEXT_COLOR)
        axes.set_xlim(-1.35, 1.35)
        axes.set_ylim(-1.35, 1.35)
        axes.set_aspect("equal")
        axes.set_xlabel("first channel of the pair", color=MUTED_COLOR)
        axes.set_ylabel("second channel", color=MUTED_COLOR)
    return figure


def plot_examples(rows: Sequence[tuple[Sequence[str], str]], title: str) -> Figure:
    """Plot contexts and their targets, one per row: context characters filled, the target outlined."""
    width = max(len(context) for context, _ in rows) + 1
    figure = _new_figure(0.36 * width + 0.9, 0.36 * len(rows) + 1)
    axes = figure.subplots()
    _set_title(axes, title)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(width), [str(position + 1) for position in range(width)])
    axes.set_yticks([-row for row in range(len(rows))], [str(row + 1) for row in range(len(rows))])
    _name_axes(axes, "position", "row")
    context_box = {"boxstyle": "round,pad=0.32", "lw": 1.2, "ec": BLUES(0.55), "fc": BLUES(0.12)}
    target_box = context_box | {"ec": palette(3)[2], "fc": "white"}
    for row, (context, target) in enumerate(rows):
        for column, character in enumerate([*context, target]):
            style = context_box if column < len(context) else target_box
            axes.text(column, -row, printable(character), ha="center", va="center", bbox=style, family="monospace")
    axes.set_xlim(-0.6, width - 0.4)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    return figure


def plot_rungs(names: Sequence[str], losses: Sequence[float], title: str) -> Figure:
    """Plot one horizontal bar per rung, from the first to the last, labeled with its loss."""
    figure = _new_figure(7.5, 0.36 * len(names) + 0.9)
    axes = figure.subplots()
    _set_title(axes, title)
    bars = axes.barh(names, losses, color=palette(len(names)), height=0.66)
    axes.bar_label(bars, fmt="%.3f", padding=4, color=TEXT_COLOR, fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    _name_axes(axes, "nats per character", "rung")
    return figure


def plot_comparisons(curves: Mapping[str, Sequence[float]], *, reference: str, interval: int) -> Figure:
    """Plot every curve in a panel of its own, next to the reference in gray; the panels share their scales.

    Args:
        curves: losses by name, in nats per token, one every ``interval`` steps.
        reference: the name of the curve that every panel shows.
    """
    others = {name: losses for name, losses in curves.items() if name != reference}
    figure = _new_figure(9.6, 2.6 * -(-len(others) // COMPARISON_COLUMNS))
    panels = figure.subplots(-(-len(others) // COMPARISON_COLUMNS), COMPARISON_COLUMNS, sharex=True, sharey=True)
    for axes, (name, losses), color in zip(panels.flat, others.items(), palette(len(others)), strict=False):
        _set_title(axes, name)
        steps = [interval * number for number in range(len(losses))]
        axes.plot(steps, curves[reference], color=MUTED_COLOR, linewidth=1.2, label=reference)
        axes.plot(steps, losses, color=color, linewidth=1.8)
        axes.set_ylim(0, 1.15 * max(curves[reference]))  # a curve that diverges leaves its panel
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=GRID_COLOR, linewidth=0.5)
        _name_axes(axes, "step", "val loss, nats per token")
    panels.flat[0].legend(frameon=False, labelcolor=TEXT_COLOR)
    return figure


def _name_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel, color=MUTED_COLOR, fontsize=9)
    axes.set_ylabel(ylabel, color=MUTED_COLOR, fontsize=9)


def _print_values(axes: Axes, matrix: Tensor) -> None:
    half = float(matrix.max()) / 2
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            if value:
                color = "white" if value > half else TEXT_COLOR
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)


def _new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(max(width, 3.2), height), dpi=150, layout="constrained")


def _subplots(figure: Figure, n: int, *, share_y: bool = False) -> list[Axes]:
    return list(figure.subplots(1, n, squeeze=False, sharey=share_y)[0])


def _set_title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=TEXT_COLOR)
    axes.tick_params(length=0, colors=MUTED_COLOR, labelsize=9)
    axes.spines[:].set_color(GRID_COLOR)
