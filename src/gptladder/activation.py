"""Nonlinearities of the feed-forward."""

from __future__ import annotations

from torch import Tensor, nn


class SquaredReLU(nn.Module):
    """ReLU, squared: a product of a feature with itself (So et al. 2021, "Primer")."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "relu2": SquaredReLU}
