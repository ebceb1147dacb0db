"""The pictures of the tour: maps, columns, curves, and blocks with what they teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from gptladder.evaluation.attention_maps import DEEP, MIDDLE, PALE
from gptladder.report.charts import FAINT, HAIR, INK
from gptladder.report.colours import shades

BLUES = LinearSegmentedColormap.from_list("weights", [[part / 255 for part in c] for c in (PALE, MIDDLE, DEEP)])
LEGIBLE = 10  # rows of a map whose figures can be read
CROWD = 20  # columns: of more, each is named in small


def visible(character: str) -> str:
    """A character as a reader can see it."""
    return "␣" if character == " " else repr(character)[1:-1]


def maps(panels: Mapping[str, Tensor], labels: Sequence[str] | None = None) -> Figure:
    """Matrices side by side, dark where they are large; zeros stay white, small maps carry their figures."""
    many = len(labels or []) > CROWD
    side = 7.2 if many else 3.6
    figure = _figure(side * len(panels), side + 0.5)
    for axes, (title, numbers) in zip(_row(figure, len(panels)), panels.items(), strict=True):
        _title(axes, title)
        axes.imshow(numbers.where(numbers != 0, float("nan")).numpy(), cmap=BLUES, vmin=0, vmax=float(numbers.max()))
        axes.spines[:].set_visible(False)
        places = range(len(labels or []))
        axes.set_xticks(places, labels or [], fontsize=6 if many else 9)
        axes.set_yticks(places, labels or [], fontsize=6 if many else 9)
        if len(numbers) <= LEGIBLE:
            _write_figures(axes, numbers)
    return figure


def columns(labels: Sequence[str], panels: Mapping[str, Sequence[float]]) -> Figure:
    """Shares as columns, a panel each, all on one scale."""
    figure = _figure(max(2.7 * len(panels), 0.19 * len(labels) * len(panels)), 3.2)
    for axes, (title, shares), colour in zip(
        _row(figure, len(panels), share_y=True), panels.items(), shades(len(panels)), strict=True
    ):
        _title(axes, title)
        axes.bar(range(len(shares)), shares, color=colour, width=0.7)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xticks(range(len(labels)), labels, fontsize=9 if len(labels) <= CROWD else 7)
        axes.set_xlim(-0.7, len(labels) - 0.3)
    return figure


def curves(title: str, lines: Mapping[str, Sequence[float]], *, x: str, log: bool = False) -> Figure:
    """Values along steps or layers, each line named in the legend."""
    figure = _figure(7, 3.8)
    axes = figure.subplots()
    _title(axes, title)
    axes.set_yscale("log" if log else "linear")
    for (name, values), colour in zip(lines.items(), shades(len(lines)), strict=True):
        axes.plot(values, color=colour, linewidth=0.8 if len(values) > LEGIBLE else 1.8, label=name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=HAIR, linewidth=0.5)
    axes.set_xlabel(x, color=FAINT, loc="right")
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=INK)
    return figure


def lessons(rows: Sequence[tuple[Sequence[str], str]], title: str) -> Figure:
    """Contexts with their targets, a row each: what is known in blue, what is to be predicted ringed."""
    width = max(len(context) for context, _ in rows) + 1
    figure = _figure(0.36 * width + 0.4, 0.36 * len(rows) + 0.5)
    axes = figure.subplots()
    _title(axes, title)
    axes.axis("off")
    for row, (context, target) in enumerate(rows):
        for place, character in enumerate([*context, target]):
            known = place < len(context)
            square = {"boxstyle": "round,pad=0.32", "lw": 1.2, "ec": BLUES(0.55), "fc": BLUES(0.12 if known else 0.0)}
            if not known:
                square |= {"ec": shades(3)[2], "fc": "white"}
            axes.text(place, -row, visible(character), ha="center", va="center", bbox=square, family="monospace")
    axes.set_xlim(-0.6, width - 0.4)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    return figure


def rungs(names: Sequence[str], losses: Sequence[float], title: str) -> Figure:
    """A bar a rung, from the first to the last, with its figure at the end."""
    figure = _figure(7.5, 0.36 * len(names) + 0.9)
    axes = figure.subplots()
    _title(axes, title)
    drawn = axes.barh(names, losses, color=shades(len(names)), height=0.66)
    axes.bar_label(drawn, fmt="%.3f", padding=4, color=INK, fontsize=9)
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    return figure


def _write_figures(axes: Axes, numbers: Tensor) -> None:
    half = float(numbers.max()) / 2
    for row, values in enumerate(numbers.tolist()):
        for column, value in enumerate(values):
            if value:
                colour = "white" if value > half else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(max(width, 3.2), height), dpi=150, layout="constrained")


def _row(figure: Figure, n: int, *, share_y: bool = False) -> list[Axes]:
    return list(figure.subplots(1, n, squeeze=False, sharey=share_y)[0])


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.tick_params(length=0, colors=FAINT, labelsize=9)
    axes.spines[:].set_color(HAIR)
