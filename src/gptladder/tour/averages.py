"""Chapter 5: attention before it can choose is a mean of the past, and a mean is a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from gptladder.model.attention import Average
from gptladder.tour.board import Board
from gptladder.tour.material import BLOCK_SIZE, SEED
from gptladder.tour.pictures import maps

SHAPE = (4, BLOCK_SIZE, 2)
TIMED = (256, 512, 64)
REPEATS = 3


def mask(n_time: int) -> Tensor:
    """Ones on the past and the present, zeros on the future, ``(T, T)``."""
    return torch.ones(n_time, n_time).tril()


def by_loops(x: Tensor) -> Tensor:
    """Position after position, the mean of all up to it; ``(B, T, C)`` as in all four ways."""
    out = torch.zeros_like(x)
    for b in range(x.size(0)):
        for t in range(x.size(1)):
            out[b, t] = x[b, : t + 1].mean(dim=0)
    return out


def by_sums(x: Tensor) -> Tensor:
    """The triangle of ones adds up the past in one product; dividing by how many were added comes after."""
    ones = mask(x.size(1))
    return ones @ x / ones.sum(dim=1, keepdim=True)


def by_weights(x: Tensor) -> Tensor:
    """Each row of the triangle divided by its sum: the product is the mean at once."""
    return weights(x.size(1)) @ x


def by_softmax(x: Tensor) -> Tensor:
    """Zeros, with the future at minus infinity: a softmax makes the same weights, and zeros can be learnt."""
    return softmax_weights(x.size(1)) @ x


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "loops": by_loops,
    "lower-triangular product": by_sums,
    "normalised weights": by_weights,
    "softmax of masked zeros": by_softmax,
}


def weights(n_time: int) -> Tensor:
    """The mask with each row divided by its sum."""
    ones = mask(n_time)
    return ones / ones.sum(dim=1, keepdim=True)


def softmax_weights(n_time: int) -> Tensor:
    """The softmax of zeros whose future is masked out."""
    return torch.zeros(n_time, n_time).masked_fill(mask(n_time) == 0, -torch.inf).softmax(dim=-1)


def example() -> Tensor:
    """The ``(4, 8, 2)`` input that seed 1337 draws."""
    torch.manual_seed(SEED)
    return torch.randn(SHAPE)


def rung(x: Tensor) -> Tensor:
    """The part of the rung ``average``, with the identity for its values: what it gathers is the plain mean."""
    average = Average(x.size(2), n_head=1, head_size=x.size(2))
    average.value.weight.data.copy_(torch.eye(x.size(2)))
    return average(x).detach()  # type: ignore[no-any-return]


def seconds(way: Callable[[Tensor], Tensor], x: Tensor, *, repeats: int) -> float:
    """The shortest of some runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        way(x)
        times.append(time.perf_counter() - started)
    return min(times)


def show(board: Board) -> None:
    """Print the first sequence and its means, how far the ways differ, and what loops cost."""
    x = example()
    results = {name: way(x) for name, way in WAYS.items()}
    mean = results["loops"]
    board.say(
        "The simplest way to use the past is its mean. Four ways give it, and the last is already attention: scores, "
        "masked so that no position sees its future, through a softmax. Look at the first rows of the mean: the first "
        "position has only itself, the second the mean of two."
    )
    board.matrix(f"x, the first of {SHAPE[0]} sequences", x[0])
    board.matrix("its mean of the past", mean[0])
    board.matrix("the weights, as the softmax makes them", softmax_weights(BLOCK_SIZE))
    compared = {**results, "the rung average": rung(x)}
    board.table(
        ["way", "largest difference to the loops", "equal"],
        [(name, f"{(y - mean).abs().max():.1e}", torch.allclose(y, mean, atol=1e-6)) for name, y in compared.items()],
    )
    many = torch.randn(TIMED)
    slow, fast = seconds(by_loops, many, repeats=1), seconds(by_weights, many, repeats=REPEATS)
    board.say("Loops and products say the same, but not in the same time: look what a matrix product saves.")
    board.facts(
        size=list(TIMED),
        loops=f"{slow:.3f} s",
        matrix_product=f"{fast:.3f} s",
        times_faster=f"{slow / fast:.0f}",
    )
    panels = {"the mask": mask(BLOCK_SIZE), "normalised: the weights of a mean": weights(BLOCK_SIZE)}
    board.picture("masks", lambda: maps(panels, [str(t + 1) for t in range(BLOCK_SIZE)]))
