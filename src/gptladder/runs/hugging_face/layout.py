"""Where each of our weights lies in a model of ``transformers``.

A layout lists tensors. Both directions are read from it: our weights are split into theirs, and theirs joined to ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.system.errors import UserError


@dataclass(frozen=True)
class Weight:
    """One of our tensors, and the one or several that hold its rows in ``transformers``.

    Attributes:
        name: ours.
        shape: ours.
        parts: their names, each with its number of rows of ours.
        transposed: they are stored with the first dimension last, as GPT-2's linears are.
        default: the value of all entries where our network has no such tensor.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]
    transposed: bool = False
    default: float | None = None

    def split(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors, from the weights of our network."""
        ours = weights.get(self.name)
        if ours is None:
            assert self.default is not None, self.name
            ours = torch.full(self.shape, self.default)
        names, n_rows = zip(*self.parts, strict=True)
        parts = ours.split_with_sizes(n_rows)
        # Copies: safetensors saves no two tensors that share memory.
        return {
            name: self._turn(part).clone(memory_format=torch.contiguous_format)
            for name, part in zip(names, parts, strict=True)
        }

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Our tensor, from theirs."""
        return torch.cat([self._turn(tensors[name]) for name, _ in self.parts]).contiguous()

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Their names and shapes."""
        for name, n_rows in self.parts:
            shape = (n_rows, *self.shape[1:])
            yield name, shape[::-1] if self.transposed else shape

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.T if self.transposed else tensor


def embedding(name: str, theirs: str, n_rows: int, width: int) -> Weight:
    """A table with one row per token or position."""
    return Weight(f"{name}.weight", (n_rows, width), ((f"{theirs}.weight", n_rows),))


def norm(name: str, theirs: str, width: int, *, bias: bool) -> Iterator[Weight]:
    """The gain of a normalization, and its bias; without them it multiplies by one and adds zero."""
    yield Weight(f"{name}.weight", (width,), ((f"{theirs}.weight", width),), default=1.0)
    if bias:
        yield Weight(f"{name}.bias", (width,), ((f"{theirs}.bias", width),), default=0.0)


def linear(
    name: str, theirs: str | Mapping[str, int], n_in: int, n_out: int, *, bias: bool, transposed: bool = False
) -> Iterator[Weight]:
    """The weights of a linear, and its bias, which is zero where ours has none.

    Args:
        theirs: its name, or the names of several with the channels of the output that each computes.
    """
    parts = {theirs: n_out} if isinstance(theirs, str) else theirs
    weights, biases = (
        tuple((f"{part}.{kind}", n_rows) for part, n_rows in parts.items()) for kind in ("weight", "bias")
    )
    yield Weight(f"{name}.weight", (n_out, n_in), weights, transposed=transposed)
    if bias:
        yield Weight(f"{name}.bias", (n_out,), biases, default=0.0)


def to_transformers(weights: Mapping[str, Tensor], layout: list[Weight]) -> dict[str, Tensor]:
    """The tensors of ``transformers``, by its names, from those of our network."""
    return {name: tensor for weight in layout for name, tensor in weight.split(weights).items()}


def from_transformers(tensors: Mapping[str, Tensor], layout: list[Weight]) -> dict[str, Tensor]:
    """The weights of our network, from the tensors of ``transformers``; ``check_tensors`` has checked them."""
    return {weight.name: weight.join(tensors) for weight in layout}


def check_tensors(shapes: Mapping[str, tuple[int, ...]], layout: list[Weight]) -> None:
    """Check that a model has exactly the tensors of a layout.

    Raises:
        UserError: one is missing, has another shape, or is not in the layout.
    """
    expected = {name: shape for weight in layout for name, shape in weight.shapes()}
    for name, shape in expected.items():
        if name not in shapes:
            raise UserError(f"the tensor {name} is missing: take a complete copy of the model")
        if shapes[name] != shape:
            raise UserError(f"the tensor {name} is {shapes[name]}, and config.json says {shape}: take one that fits")
    for name in sorted(shapes.keys() - expected.keys()):
        raise UserError(f"the tensor {name} belongs to no part of the network that config.json describes")
