"""The chart of the loss by position in the window."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.figure import Figure

from gptladder.report.charts import GRID_COLOR, TEXT_COLOR, new_chart

BLUE = "#3b82d6"
MAX_LABELED = 16  # positions; with more of them no value is printed


def plot_loss_by_position(losses: list[float], errors: list[float]) -> Figure:
    """Plot the loss after each number of context tokens, with its standard error."""
    legend = "bars: standard error" if len(losses) <= MAX_LABELED else "dots: means over growing ranges"
    figure, axes = new_chart("exact loss by tokens of context, nats per token", legend, 8, 4)
    context = list(range(1, len(losses) + 1))
    if len(losses) <= MAX_LABELED:
        axes.errorbar(context, losses, errors, color=BLUE, linewidth=1.6, marker="o", markersize=4, capsize=3)
        axes.set_xticks(context)
        for n, loss, error in zip(context, losses, errors, strict=True):
            top = (n, loss + error)
            axes.annotate(f"{loss:.3f}", top, (0, 6), textcoords="offset points", ha="center", color=TEXT_COLOR)
    else:  # a log scale: the first few tokens matter most
        axes.plot(context, losses, color=BLUE, linewidth=0.6, alpha=0.4)
        axes.plot(*_range_means(losses), color=BLUE, linewidth=1.8, marker="o", markersize=4)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.5)
    axes.margins(y=0.18)
    return figure


def _range_means(losses: list[float]) -> tuple[list[float], list[float]]:
    """The middles and the mean losses of ranges of context; each starts a factor of sqrt(2) after the one before."""
    n = len(losses)
    starts = {round(2 ** (half / 2)) for half in range(2 * n.bit_length())}
    # A short last range would be noisy: it joins the one before.
    edges = [*sorted(start for start in starts if start <= 0.8 * n), n + 1]
    middles = [(first + after - 1) / 2 for first, after in pairwise(edges)]
    return middles, [sum(losses[first - 1 : after - 1]) / (after - first) for first, after in pairwise(edges)]
