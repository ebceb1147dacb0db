"""Checkpoints, read without running what they contain.

Nothing here imports Lightning, which would take most of the time of a sample or a report.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gptladder.data.text import Corpus, open_corpus, read_text, tiny_shakespeare_corpus
from gptladder.data.token_cache import TokenSplits, encode_splits
from gptladder.data.tokenizer import Tokenizer
from gptladder.model.gpt import build_net
from gptladder.runs.export import read_exported
from gptladder.runs.old_records import upgrade_checkpoint
from gptladder.runs.run import checkpoint_path
from gptladder.system.errors import UserError

TOKENIZERS = {  # imported when one is needed: two of them need libraries that are extras
    "char": ("gptladder.data.tokenizer", "CharTokenizer"),
    "gpt2": ("gptladder.data.gpt2_tokenizer", "GPT2Tokenizer"),
    "bpe": ("gptladder.data.bpe", "BPETokenizer"),
}


@dataclass(frozen=True)
class Trained:
    """A trained network, its tokenizer and the config of its run."""

    net: nn.Module
    tokenizer: Tokenizer
    config: dict[str, Any]
    corpus_sha256: str

    @property
    def block_size(self) -> int:
        return int(self.config["model"]["block_size"])


class EvalTokens(NamedTuple):
    """Tokens to evaluate on, ``(N,)``, and the number of tokens per character."""

    tokens: Tensor
    tokens_per_char: float


def load_trained(path: str | Path) -> Trained:
    """Load a trained network in evaluation mode, from a checkpoint or from an export.

    Raises:
        UserError: the file is missing, truncated, not one of ours, or does not fit the network that it names.
    """
    if Path(path).is_dir():
        path = checkpoint_path(path)
    metadata, weights = _read_export(Path(path)) if Path(path).suffix == ".safetensors" else _read(path)
    try:
        tokenizer = build_tokenizer(metadata["tokenizer"])
        net = build_net(metadata["net"])
        net.load_state_dict(weights)
        for name, tensor in weights.items():
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise ValueError(f"the weights {name} are not all finite numbers")
        trained = Trained(net.eval(), tokenizer, metadata["config"], metadata["corpus_sha256"])
        for key, value in (("vocab_size", tokenizer.vocab_size), ("block_size", trained.block_size)):
            if value != metadata["net"][key]:
                raise ValueError(f"{key} is {value}, of the network {metadata['net'][key]}")
        return trained
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"checkpoint {path} does not fit a network of this version ({what}): use the version that wrote it"
        ) from None


def build_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """A tokenizer from the plain values that its ``state_dict`` returned.

    Raises:
        LookupError, TypeError, ValueError: they describe no tokenizer of ours.
        UserError: the library that it needs is not installed.
    """
    module, name = TOKENIZERS[state["kind"]]
    tokenizer: Tokenizer = getattr(import_module(module), name).from_state(state)
    return tokenizer


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    checkpoint = read_checkpoint(path)
    return checkpoint["gptladder"], net_weights(checkpoint)


def _read_export(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    metadata, weights = read_exported(path)
    if "net" in metadata:
        return metadata, weights
    upgraded = upgrade_checkpoint({"gptladder": metadata, "state_dict": weights})
    return upgraded["gptladder"], upgraded["state_dict"]


def net_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the network alone, under the names that the network gives them."""
    states = checkpoint.get("state_dict")
    named = states.items() if isinstance(states, dict) else ()
    return {name.removeprefix("net."): tensor for name, tensor in named if name.startswith("net.")}


def recorded_corpus(trained: Trained) -> tuple[Corpus, Corpus]:
    """The training and the validation split of a run.

    Raises:
        UserError: the text is gone or is not the one that the run was trained on.
    """
    path, split = trained.config["data"]["path"], trained.config["data"]["split"]
    corpus = tiny_shakespeare_corpus() if path is None else open_corpus(path)
    if corpus.sha256 != trained.corpus_sha256:
        raise UserError(f"data.path={path} has changed since the run was trained: name a text with --text")
    return corpus.split(split)


def recorded_tokens(trained: Trained) -> TokenSplits:
    """The tokens of both splits of a run."""
    return encode_splits(*recorded_corpus(trained), trained.tokenizer, cache=trained.config["data"].get("cache"))


def validation_tokens(trained: Trained) -> EvalTokens:
    """The validation split of a run.

    Raises:
        UserError: the text is gone or is not the one that the run was trained on.
    """
    tokens = recorded_tokens(trained).val
    return EvalTokens(tokens, len(tokens) / len(recorded_corpus(trained)[1]))


def tokenize_file(trained: Trained, path: Path) -> EvalTokens:
    """Another text, encoded by the tokenizer of a run.

    Raises:
        UserError: the text cannot be read or encoded.
    """
    return tokenize_text(trained, read_text(path, key="--text"))


def tokenize_text(trained: Trained, text: str) -> EvalTokens:
    """A text, encoded by the tokenizer of a run.

    Raises:
        UserError: the text cannot be encoded, or is empty.
    """
    if not text:
        raise UserError("the text is empty; at least 2 tokens are needed")
    tokens = trained.tokenizer.encode(text)
    return EvalTokens(tokens, len(tokens) / len(text))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain containers and tensors, also one of version 0.1; nothing in the file is run.

    Raises:
        UserError: the file is missing, truncated or not one of ours.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}: name one that a run wrote, or a run directory")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's advice on foreign files
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # PyTorch may raise anything for a damaged or foreign file
        raise UserError(
            f"checkpoint {path} cannot be read: it is truncated or was not written by a run; take another one"
        ) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("gptladder"), dict):
        raise UserError(f"checkpoint {path} was not written by gpt-ladder: use one that a run wrote")
    if "net" in checkpoint["gptladder"]:
        return checkpoint
    try:
        return upgrade_checkpoint(checkpoint)
    except (LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"checkpoint {path} cannot be read ({what}): use another one") from None
