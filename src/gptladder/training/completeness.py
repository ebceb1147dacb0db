"""Whether a checkpoint has everything that a run needs to go on with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

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
    weights = checkpoint.get("state_dict", {})
    yield from (f"state_dict.net.{name}" for name in net.state_dict() if f"net.{name}" not in weights)
    yield from _missing_moments(checkpoint)
    if ResultWriter.__qualname__ not in checkpoint.get("callbacks", {}):
        yield "callbacks.ResultWriter"
    random_states = checkpoint.get(TextDataModule.__qualname__, {})
    for key in data.state_dict():
        if key not in random_states and key != "cuda":  # which a machine without a GPU does not have
            yield f"TextDataModule.{key}"


def _missing_moments(checkpoint: Mapping[str, Any]) -> Iterator[str]:
    if not checkpoint.get("optimizer_states"):
        yield "optimizer_states"
        return
    for state in checkpoint["optimizer_states"]:
        parameters = [number for group in state["param_groups"] for number in group["params"]]
        if checkpoint.get("global_step") and len(state["state"]) < len(parameters):
            yield "optimizer_states.state"
