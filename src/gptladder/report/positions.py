"""The picture of a block: how the loss falls from its first place to its last."""

from __future__ import annotations

from itertools import pairwise

from matplotlib.figure import Figure

from gptladder.report.charts import HAIR, INK, canvas

BLUE = "#3b82d6"
FEW = 16  # places that can each have its figure


def positions(losses: list[float], errors: list[float]) -> Figure:
    """The loss at each place in the block, with its standard error: what a token of context more is worth."""
    legend = "bars: standard error" if len(losses) <= FEW else "dots: means over growing stretches"
    figure, axes = canvas("exact loss by tokens of context, nats a token", legend, 8, 4)
    context = list(range(1, len(losses) + 1))
    if len(losses) <= FEW:
        axes.errorbar(context, losses, errors, color=BLUE, linewidth=1.6, marker="o", markersize=4, capsize=3)
        axes.set_xticks(context)
        for place, loss, error in zip(context, losses, errors, strict=True):
            above = (place, loss + error)
            axes.annotate(f"{loss:.3f}", above, (0, 6), textcoords="offset points", ha="center", color=INK)
    else:  # the first few tokens matter most, and of the many others only the drift
        axes.plot(context, losses, color=BLUE, linewidth=0.6, alpha=0.4)
        axes.plot(*_stretches(losses), color=BLUE, linewidth=1.8, marker="o", markersize=4)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(axis="y", color=HAIR, linewidth=0.5)
    axes.margins(y=0.18)
    return figure


def _stretches(losses: list[float]) -> tuple[list[float], list[float]]:
    """Means over stretches of context, each half a doubling longer than the one before, and the middle of each."""
    n = len(losses)
    starts = {round(2 ** (half / 2)) for half in range(2 * n.bit_length())}
    # What would be left for a last stretch of its own joins the one before.
    edges = [*sorted(start for start in starts if start <= 0.8 * n), n + 1]
    middles = [(first + after - 1) / 2 for first, after in pairwise(edges)]
    return middles, [sum(losses[first - 1 : after - 1]) / (after - first) for first, after in pairwise(edges)]
