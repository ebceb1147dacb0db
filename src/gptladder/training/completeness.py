"""Whether a checkpoint has everything that a run needs to go on with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from gptladder.data.datamodule import TextDataModule
from gptladder.training.callbacks.result_writer import ResultWriter


def missing_parts(checkpoint: Mapping[str, Any], net: nn.Module, data: TextDataModule) -> list[str]:
    """The parts that a checkpoint lacks, each by its key; empty if it is complete."""
    try:
        return list(_missing(checkpoint, net, data))
    except (LookupError, TypeError, AttributeError) as error:  # a part is there, but is not what it should be
        return [f"a readable part ({type(error).__name__}: {error})"]


def _missing(checkpoint: Mapping[str, Any], net: nn.Module, data: TextDataModule) -> Iterator[str]:
    for key in ("global_step", "epoch", "loops", "lr_schedulers"):
        if key not in checkpoint:
            yield key
    if "loops" in checkpoint and "fit_loop" not in checkpoint["loops"]:
        yield "loops.fit_loop"
    step = checkpoint.get("global_step", 0)
    if type(step) is not int or step < 0:
        yield f"a global_step (it is {step!r})"
    weights = checkpoint.get("state_dict", {})
    for name, tensor in net.state_dict().items():
        saved = weights.get(f"net.{name}")
        if saved is None or saved.shape != tensor.shape or not _is_like(saved, tensor):
            yield f"state_dict.net.{name}"
    yield from _missing_moments(checkpoint, net)
    if ResultWriter.__qualname__ not in checkpoint.get("callbacks", {}):
        yield "callbacks.ResultWriter"
    random_states = checkpoint.get(TextDataModule.__qualname__, {})
    for key in data.state_dict():
        if key not in random_states and key != "cuda":  # which a machine without a GPU does not have
            yield f"TextDataModule.{key}"


def _missing_moments(checkpoint: Mapping[str, Any], net: nn.Module) -> Iterator[str]:
    if not checkpoint.get("optimizer_states"):
        yield "optimizer_states"
        return
    for state in checkpoint["optimizer_states"]:
        parameters = [number for group in state["param_groups"] for number in group["params"]]
        if checkpoint.get("global_step") and len(state["state"]) < len(parameters):
            yield "optimizer_states.state"
        shapes = {tuple(parameter.shape) for parameter in net.parameters()}
        tensors = [tensor for moments in state["state"].values() for tensor in moments.values()]
        if any(tensor.dim() and tuple(tensor.shape) not in shapes for tensor in tensors if isinstance(tensor, Tensor)):
            yield "optimizer_states.state of the shape of a weight"


def _is_like(saved: Tensor, tensor: Tensor) -> bool:
    """Whether a saved weight is a finite number of the same kind; in bf16-true it has another precision."""
    return saved.is_floating_point() == tensor.is_floating_point() and bool(saved.isfinite().all())
