"""The start of chapter 5: a mean of rows is a product with a triangular matrix, small enough to follow by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from gptladder.tour.console import TourConsole

TOY_SEED = 42
TOY_SHAPE = (3, 2)


def toy_average() -> tuple[Tensor, Tensor, Tensor]:
    """Average the rows of a small matrix up to each row.

    Returns:
        ``a``, the triangle of ones with each row divided by its sum; ``b``, integers of seed 42; and ``a @ b``.
    """
    torch.manual_seed(TOY_SEED)
    a = torch.ones(TOY_SHAPE[0], TOY_SHAPE[0]).tril()
    a = a / a.sum(dim=1, keepdim=True)
    b = torch.randint(0, 10, TOY_SHAPE).float()
    return a, b, a @ b


def show_toy(console: TourConsole) -> None:
    """Print the three matrices."""
    a, b, c = toy_average()
    console.paragraph(
        "First a toy. A row of a @ b is a sum of rows of b, weighted by a row of a. The rows of a triangle of ones, "
        "each divided by its sum, are the weights of a mean: the first row of a @ b is the first row of b, the second "
        "is the mean of two, the third the mean of three."
    )
    console.code(toy_average)
    console.matrix("a", a)
    console.matrix("b", b)
    console.matrix("a @ b", c)
