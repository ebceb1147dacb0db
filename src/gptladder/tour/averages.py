"""Chapter 5: the mean of the past is attention with uniform weights, and it is a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from gptladder.model.attention import UniformAttention
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED
from gptladder.tour.plots import plot_heatmaps
from gptladder.tour.toy import show_toy

SHAPE = (4, BLOCK_SIZE, 2)
TIMED_SHAPE = (256, 512, 64)
REPEATS = 3


def causal_mask(n_time: int) -> Tensor:
    """Ones on the past and the present, zeros on the future, ``(T, T)``."""
    return torch.ones(n_time, n_time).tril()


def average_with_loops(x: Tensor) -> Tensor:
    """For every position, the mean of all positions up to it; ``(B, T, C)`` to ``(B, T, C)``, as in all four ways."""
    out = torch.zeros_like(x)
    for b in range(x.size(0)):
        for t in range(x.size(1)):
            out[b, t] = x[b, : t + 1].mean(dim=0)
    return out


def average_with_sums(x: Tensor) -> Tensor:
    """One product with the triangle of ones sums up the past; dividing by the counts gives the mean."""
    mask = causal_mask(x.size(1))
    return mask @ x / mask.sum(dim=1, keepdim=True)


def average_with_weights(x: Tensor) -> Tensor:
    """Divide each row of the triangle by its sum first: the product is the mean."""
    return uniform_weights(x.size(1)) @ x


def average_with_softmax(x: Tensor) -> Tensor:
    """A softmax of zeros, with minus infinity on the future, gives the same weights, but zeros can be learned."""
    return softmax_weights(x.size(1)) @ x


METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "loops": average_with_loops,
    "lower-triangular product": average_with_sums,
    "normalized weights": average_with_weights,
    "softmax of masked zeros": average_with_softmax,
}


def uniform_weights(n_time: int) -> Tensor:
    """The causal mask with each row divided by its sum."""
    mask = causal_mask(n_time)
    return mask / mask.sum(dim=1, keepdim=True)


def softmax_weights(n_time: int) -> Tensor:
    """The softmax of zeros with the future masked out."""
    return torch.zeros(n_time, n_time).masked_fill(causal_mask(n_time) == 0, -torch.inf).softmax(dim=-1)


def example_input() -> Tensor:
    """The ``(4, 8, 2)`` input of seed 1337."""
    torch.manual_seed(SEED)
    return torch.randn(SHAPE)


def average_with_module(x: Tensor) -> Tensor:
    """The attention of the rung ``average``, with the identity as its value projection: the plain mean."""
    attention = UniformAttention(x.size(2), n_head=1, head_size=x.size(2), projection=False, bias=False)
    attention.value.weight.data.copy_(torch.eye(x.size(2)))
    mean: Tensor = attention(x)
    return mean.detach()


def time_fastest(function: Callable[[Tensor], Tensor], x: Tensor, *, repeats: int) -> float:
    """Time several calls; return the seconds of the fastest."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function(x)
        times.append(time.perf_counter() - started)
    return min(times)


def show(console: TourConsole) -> None:
    """Print the first sequence and its means, the differences between the methods, and the cost of loops."""
    show_toy(console)
    x = example_input()
    results = {name: average(x) for name, average in METHODS.items()}
    mean = results["loops"]
    console.paragraph(
        "The simplest use of the past is its mean. There are four ways to compute it, and the last one already is "
        "attention: scores, masked so that no position sees its future, through a softmax. In the mean below, the "
        "first row is the first position alone, the second is the mean of two."
    )
    console.code(*METHODS.values(), softmax_weights)
    console.matrix(f"x, the first of {SHAPE[0]} sequences", x[0])
    console.matrix("mean of the past", mean[0])
    console.matrix("weights from the softmax", softmax_weights(BLOCK_SIZE))
    compared = {**results, "the rung average": average_with_module(x)}
    console.table(
        ["method", "largest difference from loops", "equal"],
        [(name, f"{(y - mean).abs().max():.1e}", torch.allclose(y, mean, atol=1e-6)) for name, y in compared.items()],
    )
    large = torch.randn(TIMED_SHAPE)
    slow = time_fastest(average_with_loops, large, repeats=1)
    fast = time_fastest(average_with_weights, large, repeats=REPEATS)
    console.paragraph("All methods give the same result, but the matrix product is many times faster than the loops.")
    console.values(
        size=list(TIMED_SHAPE),
        loops=f"{slow:.3f} s",
        matrix_product=f"{fast:.3f} s",
        times_faster=f"{slow / fast:.0f}",
    )
    positions = [str(t + 1) for t in range(BLOCK_SIZE)]
    panels = {"causal mask": causal_mask(BLOCK_SIZE), "normalized: uniform weights": uniform_weights(BLOCK_SIZE)}
    console.save_plot(
        "masks", lambda: plot_heatmaps(panels, positions, xlabel="position that is averaged", ylabel="position")
    )
