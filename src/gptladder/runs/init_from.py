"""Initial weights and tokenizer from another run: train on one text, finetune on the next."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptladder.data.text import Corpus
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.runs.checkpoint import Trained, load_trained
from gptladder.runs.run import Run
from gptladder.system.errors import UserError

# Model arguments that the weights do not depend on.
IGNORED_KEYS = ("dropout",)


@dataclass(frozen=True)
class InitialWeights:
    """The weights and the tokenizer of the run that ``init_from`` names.

    Attributes:
        name: the run, as ``init_from`` names it.
        trained: its network.
        sha256: of its weights and its tokenizer; the run may be moved.
        unknown_characters: ``error`` for characters that its vocabulary lacks, or ``extend`` the vocabulary by new
            embedding rows.
    """

    name: str
    trained: Trained
    sha256: str
    unknown_characters: Literal["error", "extend"]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InitialWeights | None:
        """What a config asks for; ``None`` for a random initialization.

        A resumed run uses its own last checkpoint, because the run that ``init_from`` names may be gone.

        Raises:
            UserError: there is no such run, or it has another tokenizer or another architecture.
        """
        name, unknown = config["init_from"], config["unknown_characters"]
        if unknown not in ("error", "extend"):
            raise UserError(f"unknown_characters={unknown} must be error or extend")
        if name is None:
            return None
        own = Run(config["run_dir"]).last_checkpoint
        if own is not None:
            trained = _load(name, own)
            recorded = trained.config.get("init_from") or {}
            if recorded.get("run") == name:
                return cls(name, trained, recorded["sha256"], unknown)
        trained = _load(name, _weights_of(str(name)))
        initial = cls(name, trained, _fingerprint(trained), unknown)
        initial._check_same_tokenizer(config["tokenizer"], config["choices"].get("tokenizer"))
        initial._check_same_architecture(config["model"])
        return initial

    def tokenizer(self, *splits: Corpus) -> Tokenizer:
        """The tokenizer of that run, extended by the characters of a text if that is allowed.

        Raises:
            UserError: the text has characters that its vocabulary lacks.
        """
        known = self.trained.tokenizer
        if not isinstance(known, CharTokenizer):  # byte-level: no character is unknown
            return known
        new = [c for c in CharTokenizer.from_text(*splits).vocabulary if c not in known.vocabulary]
        if new and self.unknown_characters == "error":
            raise UserError(
                f"the text has {len(new)} character{'s'[: len(new) != 1]} that the vocabulary of init_from={self.name} "
                f"lacks ({', '.join(map(repr, new[:5]))}{', …' if new[5:] else ''}): use unknown_characters=extend to "
                "add embedding rows for them, or remove them from the text"
            )
        return CharTokenizer(known.vocabulary + "".join(new)) if new else known

    def load_into(self, net: nn.Module) -> None:
        """Copy the weights into a network; embedding rows of new tokens keep their random values.

        Raises:
            UserError: they do not fit.
        """
        target, source = net.state_dict(), self.trained.net.state_dict()
        for name in sorted(target.keys() | source.keys()):
            new, old = target.get(name), source.get(name)
            if new is None or old is None or not self._fits(old, new):
                raise UserError(
                    f"init_from={self.name} has another architecture: its {name} is {_shape(old)}, not {_shape(new)}"
                )
            new[tuple(slice(size) for size in old.shape)] = old

    def _fits(self, old: Tensor, new: Tensor) -> bool:
        n_known = self.trained.tokenizer.vocab_size
        return old.dim() == new.dim() and all(
            size == wanted or size == n_known < wanted for size, wanted in zip(old.shape, new.shape, strict=True)
        )

    def _check_same_tokenizer(self, config: dict[str, Any], choice: str | None) -> None:
        recorded = {key: value for key, value in self.trained.config["tokenizer"].items() if not key.startswith("_")}
        kind = self.trained.tokenizer.state_dict()["kind"]
        values = {key: value for key, value in config.items() if not key.startswith("_")}
        if recorded != values or choice not in (None, kind):
            options = [f"tokenizer.{key}={value}" for key, value in recorded.items()]
            raise UserError(
                f"init_from={self.name} was trained with {' '.join([f'tokenizer={kind}', *options])}: use the same here"
            )

    def _check_same_architecture(self, config: dict[str, Any]) -> None:
        recorded = self.trained.config["model"]
        different = [
            f"model.{key} was {recorded[key]} and is {value}"
            for key, value in config.items()
            if key not in IGNORED_KEYS and not key.startswith("_") and recorded.get(key, value) != value
        ]
        if different:
            raise UserError(
                f"init_from={self.name} has another architecture ({'; '.join(different)}): use the same values here"
            )


def fingerprint_of(name: str) -> str:
    """The SHA-256 of the weights and the tokenizer of the run that ``init_from`` names."""
    return _fingerprint(_load(name, _weights_of(name)))


def _weights_of(name: str) -> Path:
    path = Path(name)
    return path / "checkpoints" / "last.ckpt" if path.is_dir() else path


def _load(name: str, path: Path) -> Trained:
    try:
        with torch.random.fork_rng(devices=[]):  # building a network draws random numbers
            return load_trained(path)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}") from None


def _fingerprint(trained: Trained) -> str:
    digest = hashlib.sha256(json.dumps(trained.tokenizer.state_dict(), sort_keys=True).encode())
    for name, tensor in sorted(trained.net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
