"""Initial weights and tokenizer from another run or from Hugging Face: train on one text, finetune on the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gptladder.data.text import Corpus
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.runs.checkpoint import load_trained
from gptladder.runs.hugging_face.load import load_directory
from gptladder.runs.hugging_face.scheme import SCHEME, is_hugging_face
from gptladder.runs.pretrained import Pretrained
from gptladder.runs.run import Run, checkpoint_path
from gptladder.system.errors import UserError

# Model arguments that the weights do not depend on.
IGNORED_KEYS = ("dropout",)


@dataclass(frozen=True)
class InitialWeights:
    """The weights and the tokenizer of the run, or the directory of Hugging Face, that ``init_from`` names.

    Attributes:
        name: the run, as ``init_from`` names it.
        pretrained: its weights and its tokenizer.
        sha256: of both; the run may be moved.
        unknown_characters: ``error`` for characters that its vocabulary lacks, or ``extend`` the vocabulary by new
            embedding rows.
    """

    name: str
    pretrained: Pretrained
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
            pretrained = _load_run(name, own)
            recorded = pretrained.config.get("init_from") or {}
            if recorded.get("run") == name:
                return cls(name, pretrained, recorded["sha256"], unknown)
        tokenizer = config["choices"].get("tokenizer")
        pretrained = _load(str(name), tokenizer)
        sha256 = pretrained.sha256
        if is_hugging_face(name):  # whose contexts are often longer than a run can afford
            pretrained = pretrained.with_context(config["model"]["block_size"])
        initial = cls(name, pretrained, sha256, unknown)
        initial._check_same_tokenizer(config["tokenizer"], tokenizer)
        initial._check_same_architecture(config["model"])
        return initial

    def tokenizer(self, *splits: Corpus) -> Tokenizer:
        """The tokenizer of that run, extended by the characters of a text if that is allowed.

        Raises:
            UserError: the text has characters that its vocabulary lacks.
        """
        known = self.pretrained.tokenizer
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
        target, source = net.state_dict(), self.pretrained.weights
        for name in sorted(target.keys() | source.keys()):
            new, old = target.get(name), source.get(name)
            if new is None or old is None or not self._fits(old, new):
                raise UserError(
                    f"init_from={self.name} has another architecture: its {name} is {_shape(old)}, not {_shape(new)}"
                )
            new[tuple(slice(size) for size in old.shape)] = old

    def _fits(self, old: Tensor, new: Tensor) -> bool:
        n_known = self.pretrained.tokenizer.vocab_size
        return old.dim() == new.dim() and all(
            size == wanted or size == n_known < wanted for size, wanted in zip(old.shape, new.shape, strict=True)
        )

    def _check_same_tokenizer(self, config: dict[str, Any], choice: str | None) -> None:
        recorded = {key: value for key, value in self.pretrained.config["tokenizer"].items() if not key.startswith("_")}
        kind = self.pretrained.tokenizer.state_dict()["kind"]
        values = {key: value for key, value in config.items() if not key.startswith("_")}
        if recorded != values or choice not in (None, kind):
            options = [f"tokenizer.{key}={value}" for key, value in recorded.items()]
            raise UserError(
                f"init_from={self.name} was trained with {' '.join([f'tokenizer={kind}', *options])}: use the same here"
            )

    def _check_same_architecture(self, config: dict[str, Any]) -> None:
        recorded = self.pretrained.config["model"]
        different = [
            f"model.{key} was {recorded[key]} and is {value}"
            for key, value in config.items()
            if key not in IGNORED_KEYS and not key.startswith("_") and recorded.get(key, value) != value
        ]
        if different:
            remedy = "leave these keys out" if is_hugging_face(self.name) else "use the same values here"
            raise UserError(f"init_from={self.name} has another architecture ({'; '.join(different)}): {remedy}")


def fingerprint_of(name: str, tokenizer: str | None = None) -> str:
    """The SHA-256 of the weights and the tokenizer of what ``init_from`` names.

    Args:
        tokenizer: the choice of the config.
    """
    return _load(name, tokenizer).sha256


def _load(name: str, tokenizer: str | None) -> Pretrained:
    if is_hugging_face(name):
        return load_directory(name, tokenizer=tokenizer)
    path = Path(name)
    if (path / "config.json").is_file() and not (path / "checkpoints").exists():
        raise UserError(f"init_from={name} is no run: use init_from={SCHEME}{name} for a model of Hugging Face")
    return _load_run(name, checkpoint_path(path) if path.is_dir() else path)


def _load_run(name: str, path: Path) -> Pretrained:
    try:
        with torch.random.fork_rng(devices=[]):  # building a network draws random numbers
            trained = load_trained(path)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}") from None
    return Pretrained(trained.net.state_dict(), trained.tokenizer, trained.config)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
