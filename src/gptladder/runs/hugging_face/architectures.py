"""The shapes of networks that ``transformers`` has too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gptladder.runs.hugging_face import gpt2, llama
from gptladder.runs.hugging_face.layout import Weight
from gptladder.system.errors import UserError


class Architecture(Protocol):
    """What ``gpt2.py`` and ``llama.py`` define."""

    CLASS_NAME: str
    MODEL_TYPE: str
    PREFIX: str
    RUNG: str
    BUFFERS: str

    def needed_changes(self, a: Mapping[str, Any], /) -> dict[str, Any]: ...
    def to_config(self, a: Mapping[str, Any], /) -> dict[str, Any]: ...
    def from_config(self, config: Mapping[str, Any], /) -> dict[str, Any]: ...
    def weights(self, a: Mapping[str, Any], /) -> list[Weight]: ...


ARCHITECTURES: dict[str, Architecture] = {gpt2.MODEL_TYPE: gpt2, llama.MODEL_TYPE: llama}


def architecture_of_config(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a ``config.json`` names.

    Raises:
        UserError: it is another one, or needs more than the files of its directory.
    """
    name = config.get("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        if name is None:
            raise UserError("config.json has no model_type: take a model of transformers")
        raise UserError(f"config.json has model_type={name}, and only {' and '.join(ARCHITECTURES)} can be loaded")
    if config.get("auto_map"):
        raise UserError("config.json has auto_map, code of its own, which is not run: use a plain GPT-2 or Llama")
    if config.get("quantization_config"):
        raise UserError("config.json has quantization_config: use a model that is not quantized")
    return ARCHITECTURES[name]


def architecture_of_network(kind: str, arguments: Mapping[str, Any]) -> Architecture:
    """The architecture that a network of ours has.

    Args:
        kind: ``gpt`` or ``bigram``.
        arguments: those that it was built with.

    Raises:
        UserError: it has neither; the message names the fewest changes with which it would.
    """
    if kind != "gpt":
        raise UserError("--format hf: a bigram table is no network of transformers: export it without --format")
    changes = {architecture: architecture.needed_changes(arguments) for architecture in ARCHITECTURES.values()}
    nearest = min(ARCHITECTURES.values(), key=lambda architecture: len(changes[architecture]))
    if not changes[nearest]:
        return nearest
    words = " ".join(f"model.{key}={str(value).lower()}" for key, value in changes[nearest].items())
    names = " nor ".join(architecture.CLASS_NAME for architecture in ARCHITECTURES.values())
    raise UserError(
        f"--format hf: the network has the shape of neither {names}; the nearest is {nearest.CLASS_NAME}, of a run "
        f"with {words}"
    )
