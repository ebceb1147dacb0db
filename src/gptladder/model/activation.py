"""Nonlinearities of the feed-forward."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ReLU(nn.Module):
    """What is negative is nothing.

    In place, but not where there is a gradient: of what a linear made of three dimensions autograd would keep a copy,
    which took 3 to 5 % of ``layernorm``'s step.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.requires_grad else x.relu_()


class SquaredReLU(nn.Module):
    """ReLU, squared: a product of a feature with itself (So et al. 2021, "Primer")."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": ReLU,
    "gelu": nn.GELU,
    "relu2": SquaredReLU,
}
