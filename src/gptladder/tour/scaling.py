"""Chapter 7: large scores make the softmax pick a single position, so scores are scaled down."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED
from gptladder.tour.head import HEAD_SIZE, SHAPE, run_head
from gptladder.tour.plots import plot_bars

LARGE_SHAPE = (32, BLOCK_SIZE, HEAD_SIZE)
SCORES = torch.tensor([0.1, -0.2, 0.3, -0.2, 0.5])
FACTORS = (1, 8, 32)


@dataclass(frozen=True)
class VarianceStats:
    """Variances of keys, queries and scores, and the largest softmax weight, before and after scaling."""

    key: float
    query: float
    scores: float
    scaled_scores: float
    max_weight: float
    scaled_max_weight: float


def measure_variances(shape: tuple[int, int, int]) -> VarianceStats:
    """Measure unit normal keys and queries of ``(B, T, D)``, drawn in this order from the global generator.

    The largest weight is the maximum of each softmax row, averaged over all rows.
    """
    k, q = torch.randn(shape), torch.randn(shape)
    scores = q @ k.transpose(-2, -1)  # (B, T, D) -> (B, T, T)
    scaled = scores * shape[-1] ** -0.5
    variances = (tensor.var().item() for tensor in (k, q, scores, scaled))
    max_weights = (tensor.softmax(dim=-1).amax(dim=-1).mean().item() for tensor in (scores, scaled))
    return VarianceStats(*variances, *max_weights)


def sharpen(factor: float) -> Tensor:
    """Multiply the lecture's five scores by a factor and apply the softmax."""
    return (factor * SCORES).softmax(dim=-1)


def show(console: TourConsole) -> None:
    """Print the variances for two batch sizes, and the softmax of growing scores as bars."""
    run_head()  # the notebook draws its keys and queries right after that head
    notebook = measure_variances((*SHAPE[:2], HEAD_SIZE))
    torch.manual_seed(SEED)
    large = measure_variances(LARGE_SHAPE)
    console.paragraph(
        f"A score is a sum of head_size = {HEAD_SIZE} products, so its variance is about {HEAD_SIZE} if keys and "
        f"queries have variance 1. Divided by the square root of {HEAD_SIZE}, the scores have a variance of about 1 "
        "again. The largest weights show why this matters: with unscaled scores, most of the weight is on a single "
        "position even before training."
    )
    console.code(measure_variances, sharpen)
    stats = {"the notebook's (4, 8, 16)": notebook, f"{LARGE_SHAPE}": large}
    rows = [
        ("variance of keys", [s.key for s in stats.values()]),
        ("variance of queries", [s.query for s in stats.values()]),
        ("variance of scores", [s.scores for s in stats.values()]),
        ("variance of scores / sqrt(head_size)", [s.scaled_scores for s in stats.values()]),
        ("mean largest weight, unscaled", [s.max_weight for s in stats.values()]),
        ("mean largest weight, scaled", [s.scaled_max_weight for s in stats.values()]),
    ]
    console.table(["", *stats], [(name, *(f"{value:.4f}" for value in values)) for name, values in rows])
    console.paragraph(
        "The same five scores, multiplied by a factor: the softmax sharpens until all weight is on one position, where "
        "its gradient vanishes."
    )
    labels = [f"{score:+.1f}" for score in SCORES.tolist()]
    panels = {f"scores x {factor}": sharpen(factor).tolist() for factor in FACTORS}
    console.bar_chart(labels, panels)
    console.save_plot("softmax", lambda: plot_bars(labels, panels, xlabel="score", ylabel="softmax weight"))
