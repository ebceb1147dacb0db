"""Models of ``transformers`` as initial weights: local directories of the shape of GPT-2 or Llama.

Nothing is downloaded, and nothing in a directory can run code.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptladder.data.byte_alphabet import read_bytes
from gptladder.data.tokenizer import Tokenizer
from gptladder.model.argument_checks import check_arguments
from gptladder.model.gpt import GPT
from gptladder.runs.checkpoint import build_tokenizer
from gptladder.runs.hugging_face.architectures import Architecture, architecture_of_config
from gptladder.runs.hugging_face.layout import check_tensors, from_transformers
from gptladder.runs.hugging_face.safetensors_files import SafetensorsFiles, read_config_file
from gptladder.runs.hugging_face.scheme import SCHEME
from gptladder.runs.hugging_face.tokenizer_json import build_from_json, byte_level_tokens, tokenizer_settings
from gptladder.runs.pretrained import Pretrained
from gptladder.system.errors import UserError

HEAD = "lm_head.weight"  # its name in both worlds

# The arguments of a `GPT` that a config leaves out.
DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(GPT).parameters.items()}


def describe_directory(name: str, *, tokenizer: str | None = None) -> dict[str, Any]:
    """The config of a run that could have written a directory: ``rung``, ``model``, ``tokenizer`` and ``choices``.

    Args:
        name: ``hf:DIR``.
        tokenizer: the choice of the user, if there is one.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        directory = _directory(name)
        architecture, arguments = _read_architecture(directory)
        kind, settings = _tokenizer_settings(directory, arguments, tokenizer)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}") from None
    model = {key: value for key, value in arguments.items() if key != "vocab_size"}
    return {
        "rung": architecture.MODEL_TYPE,
        "model": model,
        "tokenizer": settings,
        "choices": {"model": architecture.RUNG, "tokenizer": kind},
    }


def load_directory(name: str, *, tokenizer: str | None = None) -> Pretrained:
    """The weights and the tokenizer of a directory.

    Args:
        name: ``hf:DIR``.
        tokenizer: the choice of the user; ``gpt2`` is the published one, any other must be that of ``tokenizer.json``.

    Raises:
        UserError: a file is missing or damaged, or the model is not one that our networks can be.
    """
    config = describe_directory(name, tokenizer=tokenizer)
    try:
        directory = _directory(name)
        architecture, arguments = _read_architecture(directory)
        built = _build_tokenizer(directory, config["choices"]["tokenizer"])
        if built.vocab_size != arguments["vocab_size"]:
            raise UserError(
                f"its tokenizer has {built.vocab_size:,} tokens, and config.json vocab_size={arguments['vocab_size']}: "
                "use a model whose tokenizer fits"
            )
        weights = _read_weights(directory, architecture, arguments)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}") from None
    return Pretrained(weights, built, config)


def _directory(name: str) -> Path:
    path = name.removeprefix(SCHEME)
    directory = Path(path).expanduser()
    if not path or not directory.is_dir():
        raise UserError(f"there is no directory {path!r}: nothing is downloaded, so name a local one")
    if not (directory / "config.json").exists() and (directory / ".hydra").exists():
        raise UserError(f"this is a run of train.py: use init_from={path}")
    return directory


def _read_architecture(directory: Path) -> tuple[Architecture, dict[str, Any]]:
    config = read_config_file(directory, "config.json")
    if not isinstance(config, dict):
        raise UserError("config.json is no config of transformers: take a complete copy of the model")
    architecture = architecture_of_config(config)
    arguments = architecture.from_config(config)
    check_arguments({**DEFAULTS, **arguments, "block_size": 1})  # a run may shorten the context
    return architecture, arguments


def _tokenizer_settings(directory: Path, arguments: dict[str, Any], choice: str | None) -> tuple[str, dict[str, Any]]:
    """Which of our tokenizers the directory has, and its settings; the user's choice may be the published one."""
    if choice == "gpt2":
        return "gpt2", {}
    if not (directory / "tokenizer.json").exists():
        raise UserError("there is no tokenizer.json in it: use tokenizer=gpt2 if it is GPT-2 itself")
    return tokenizer_settings(read_config_file(directory, "tokenizer.json"))


def _build_tokenizer(directory: Path, kind: str) -> Tokenizer:
    if kind != "gpt2":
        return build_from_json(read_config_file(directory, "tokenizer.json"))
    if not (directory / "tokenizer.json").exists():
        return build_tokenizer({"kind": "gpt2"})
    names = byte_level_tokens(read_config_file(directory, "tokenizer.json"))
    tokenizer = build_tokenizer({"kind": "gpt2"})
    if [read_bytes(name) for name in names] != list(map(tokenizer.token_bytes, range(tokenizer.vocab_size))):
        raise UserError("its tokenizer.json is not the published one of GPT-2: leave out tokenizer=gpt2")
    return tokenizer


def _read_weights(directory: Path, architecture: Architecture, arguments: dict[str, Any]) -> dict[str, Tensor]:
    files, layout = SafetensorsFiles(directory), architecture.weights(arguments)
    prefix = architecture.PREFIX
    is_base = not any(name.startswith(prefix) for name in files.shapes)  # the network without its head
    names = {name: f"{prefix}{name}" if is_base and name != HEAD else name for name in files.shapes}
    names = {theirs: ours for theirs, ours in names.items() if not re.fullmatch(prefix + architecture.BUFFERS, ours)}
    shapes = {names[name]: shape for name, shape in files.shapes.items() if name in names}
    head = shapes.pop(HEAD, None) if arguments["tie_weights"] else None
    check_tensors(shapes, layout)
    tensors = {names[name]: tensor for name, tensor in files.read() if name in names}
    weights = from_transformers(tensors, layout)
    if arguments["tie_weights"]:
        weights[HEAD] = weights["embedding.token.weight"]
        if head is not None and not torch.equal(tensors[HEAD], weights[HEAD]):
            raise UserError(f"{HEAD} differs from the embedding, and config.json has tie_word_embeddings=true")
    return weights
