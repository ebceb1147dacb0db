"""Checkpoints: written whole or not at all, read without running what they contain."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from gptladder.errors import UserError
from gptladder.files import replacing
from gptladder.model import GPT, Bigram
from gptladder.tokenizer import CharTokenizer

# A checkpoint says by name what it holds; only these names are built.
NETS: dict[str, type[nn.Module]] = {f"{net.__module__}.{net.__qualname__}": net for net in (Bigram, GPT)}
TOKENIZERS = {"char": CharTokenizer}


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Lightning's files, moved into place only when complete.

    Lightning 2.6 stages in the system's temporary directory and copies from there, so that a kill can leave a
    stub in the place of the last good checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)


@dataclass(frozen=True)
class Trained:
    """A net with its weights, and what is needed to talk to it."""

    net: nn.Module
    tokenizer: CharTokenizer
    config: dict[str, Any]
    corpus_sha256: str

    @property
    def block_size(self) -> int:
        return int(self.config["model"]["block_size"])


def load_trained(path: str | Path) -> Trained:
    """Rebuild a trained net from a checkpoint, in evaluation mode.

    Raises:
        UserError: the file is missing, truncated, not one of ours, or does not fit the rung that it names.
    """
    checkpoint = read_checkpoint(path)
    record = checkpoint["gptladder"]
    try:
        tokenizer = TOKENIZERS[record["tokenizer"]["kind"]].from_state(record["tokenizer"])
        arguments = dict(record["config"]["model"])
        net = NETS[arguments.pop("_target_")](**arguments, vocab_size=tokenizer.vocab_size)
        weights = {
            name.removeprefix("net."): tensor
            for name, tensor in checkpoint["state_dict"].items()
            if name.startswith("net.")
        }
        net.load_state_dict(weights)
        return Trained(net.eval(), tokenizer, record["config"], record["corpus_sha256"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"checkpoint {path} does not fit a net of this version ({what}): use the version that wrote it"
        ) from None


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
