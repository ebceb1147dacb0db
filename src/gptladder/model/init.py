"""Where training starts: other first weights than the lecture's draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import nn

from gptladder.model.attention import Attention

if TYPE_CHECKING:
    from gptladder.model.gpt import GPT

# Of the tables of `zero`: any value from 0.2 to 0.5 gives the same loss in the speedrun, 1 gives 0.015 more.
NARROW = 0.3


def lecture(net: GPT) -> None:
    """Leave the draws of torch's own layers, as the lecture does."""


def gpt2(net: GPT) -> None:
    """Draw every matrix and table from normals of 0.02, narrower where layers add up (Radford et al. 2019).

    Two projections a layer write into the residual stream: theirs are divided by the square root of their number.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention):
            nn.init.normal_(module.query_key_value, std=0.02)
    projections = list(output_projections(net))
    for projection in projections:
        nn.init.normal_(projection.weight, std=0.02 / len(projections) ** 0.5)


def zero(net: GPT) -> None:
    """Let every sublayer add nothing at first, and the head guess (Zhang et al. 2019, "Fixup"; Bachlechner 2020).

    Tables are drawn narrower than torch's unit normals, so that the few steps of a short run can turn them.
    """
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=NARROW)
    for module in (*output_projections(net), net.head):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


def output_projections(net: GPT) -> Iterator[nn.Linear]:
    """The linears that end a sublayer, whose output goes into the residual stream."""
    for part in net.layers.modules():
        if isinstance(part, nn.Sequential) and len(part) and isinstance(part[-1], nn.Linear):
            yield part[-1]


INITIALISATIONS: dict[str, Callable[[GPT], None]] = {"lecture": lecture, "gpt2": gpt2, "zero": zero}
