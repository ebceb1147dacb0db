"""Nonlinearities of the feed-forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn


class SquaredReLU(nn.Module):
    """ReLU, squared: a product of a feature with itself (So et al. 2021, "Primer")."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # In place: what comes before it is a linear, which does not need its output again.
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
    "relu2": SquaredReLU,
}
