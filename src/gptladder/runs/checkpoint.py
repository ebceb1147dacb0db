"""Checkpoints, read without running what they contain.

This file knows no Lightning, whose import would be most of the time that a sample or a report takes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptladder.data.text import Corpus, open_corpus, tiny_shakespeare_corpus
from gptladder.data.token_cache import TokenSplits, encode_splits
from gptladder.data.tokenizer import Tokenizer
from gptladder.model.gpt import GPT, Bigram
from gptladder.runs.export import read_exported
from gptladder.system.errors import UserError

# A checkpoint says by name what it holds; only these names are built.
NETS: dict[str, type[nn.Module]] = {f"{net.__module__}.{net.__qualname__}": net for net in (Bigram, GPT)}
TOKENIZERS = {  # imported when one is met: two of them need libraries that are extras
    "char": ("gptladder.data.tokenizer", "CharTokenizer"),
    "gpt2": ("gptladder.data.gpt2_tokenizer", "GPT2Tokenizer"),
    "bpe": ("gptladder.data.bpe", "BPETokenizer"),
}


@dataclass(frozen=True)
class Trained:
    """A net with its weights, and what is needed to talk to it."""

    net: nn.Module
    tokenizer: Tokenizer
    config: dict[str, Any]
    corpus_sha256: str

    @property
    def block_size(self) -> int:
        return int(self.config["model"]["block_size"])


def load_trained(path: str | Path) -> Trained:
    """Rebuild a trained net, in evaluation mode, from a checkpoint or from what ``export`` wrote.

    Raises:
        UserError: the file is missing, truncated, not one of ours, or does not fit the rung that it names.
    """
    record, weights = read_exported(Path(path)) if Path(path).suffix == ".safetensors" else _read(path)
    try:
        tokenizer = rebuilt(record["tokenizer"])
        arguments = dict(record["config"]["model"])
        net = NETS[arguments.pop("_target_")](**arguments, vocab_size=tokenizer.vocab_size)
        net.load_state_dict(weights)
        return Trained(net.eval(), tokenizer, record["config"], record["corpus_sha256"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"checkpoint {path} does not fit a net of this version ({what}): use the version that wrote it"
        ) from None


def rebuilt(state: dict[str, Any]) -> Tokenizer:
    """A tokenizer from the plain values that it was saved as.

    Raises:
        LookupError, TypeError, ValueError: they are of no tokenizer of ours.
        UserError: the library that it needs is not installed.
    """
    module, name = TOKENIZERS[state["kind"]]
    tokenizer: Tokenizer = getattr(import_module(module), name).from_state(state)
    return tokenizer


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = read_checkpoint(path)
    return checkpoint["gptladder"], net_weights(checkpoint)


def net_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the net alone, by the names that the net gives them."""
    states = checkpoint.get("state_dict")
    named = states.items() if isinstance(states, dict) else ()
    return {name.removeprefix("net."): tensor for name, tensor in named if name.startswith("net.")}


def recorded_corpus(trained: Trained) -> tuple[Corpus, Corpus]:
    """The training and the validation split of a checkpoint's run.

    Raises:
        UserError: the text is gone or is not the one that the run was trained on.
    """
    path, split = trained.config["data"]["path"], trained.config["data"]["split"]
    text = tiny_shakespeare_corpus() if path is None else open_corpus(path)
    if text.sha256 != trained.corpus_sha256:
        raise UserError(f"data.path={path} has changed since the run was trained: name the text to measure with --text")
    return text.split(split)


def recorded_tokens(trained: Trained) -> TokenSplits:
    """The same, encoded."""
    return encode_splits(*recorded_corpus(trained), trained.tokenizer, cache=trained.config["data"].get("cache"))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain containers and tensors; nothing in the file is ever run.

    Raises:
        UserError: the file is missing, truncated or not one of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}: name a file that train.py wrote, or a run with --run")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on foreign files
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a damaged or foreign file makes torch raise has no bounds
        raise UserError(
            f"checkpoint {path} cannot be read: it is truncated or was not written by train.py; take another one"
        ) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("gptladder"), dict):
        raise UserError(f"checkpoint {path} is foreign: it was not written by this project's train.py")
    return checkpoint
