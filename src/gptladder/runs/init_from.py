"""Where a run starts: from what another run learnt, pretrained on one text to be finetuned on the next."""

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

# Of the model's arguments those that the weights do not depend on.
FREE = ("dropout",)


@dataclass(frozen=True)
class Start:
    """Weights and tokenizer of a run that is begun from.

    Attributes:
        name: the run, as ``init_from`` names it.
        trained: its net.
        sha256: of its weights and its tokenizer, wherever they are kept.
        vocabulary: what becomes of characters that it does not know: ``refuse`` them, or take the ``union``, in which
            its own keep their rows and the others have fresh ones.
    """

    name: str
    trained: Trained
    sha256: str
    vocabulary: Literal["refuse", "union"]

    @classmethod
    def of(cls, config: dict[str, Any]) -> Start | None:
        """The start that a config asks for; ``None`` for fresh draws.

        A run that goes on starts from its own last checkpoint: the run that it began from may be gone by then.

        Raises:
            UserError: there is nothing to start from, or it has another tokenizer or another architecture.
        """
        name, vocabulary = config["init_from"], config["init_from_vocabulary"]
        if vocabulary not in ("refuse", "union"):
            raise UserError(f"init_from_vocabulary={vocabulary} must be refuse or union")
        if name is None:
            return None
        own = Run(config["run_dir"]).last_checkpoint
        if own is not None:
            trained = _loaded(name, own)
            begun = trained.config.get("init_from") or {}
            if begun.get("run") == name:
                return cls(name, trained, begun["sha256"], vocabulary)
        path = Path(str(name))
        trained = _loaded(name, path / "checkpoints" / "last.ckpt" if path.is_dir() else path)
        start = cls(name, trained, _fingerprint(trained), vocabulary)
        start._check_same_tokenizer(config["tokenizer"])
        start._check_same_architecture(config["model"])
        return start

    def tokenizer(self, *splits: Corpus) -> Tokenizer:
        """The run's own tokenizer, with what a text needs besides if that is allowed.

        Raises:
            UserError: the text has characters that the run does not know.
        """
        known = self.trained.tokenizer
        if not isinstance(known, CharTokenizer):  # of bytes, which has no unknown characters
            return known
        new = [c for c in CharTokenizer.from_text(*splits).vocabulary if c not in known.vocabulary]
        if new and self.vocabulary == "refuse":
            raise UserError(
                f"init_from={self.name} knows {known.vocab_size} characters, and the text has {len(new)} others "
                f"({', '.join(map(repr, new[:5]))}{', …' if new[5:] else ''}): init_from_vocabulary=union gives them "
                "fresh rows, or take them out of the text"
            )
        return CharTokenizer(known.vocabulary + "".join(new)) if new else known

    def fill(self, net: nn.Module) -> None:
        """Put the run's weights into a net; rows of tokens that it does not know stay as they were drawn.

        Raises:
            UserError: they do not fit.
        """
        weights, theirs = net.state_dict(), self.trained.net.state_dict()
        for name in sorted(weights.keys() | theirs.keys()):
            ours, its = weights.get(name), theirs.get(name)
            if ours is None or its is None or not self._fits(its, ours):
                sizes = f"its {name} is {_shape(its)}, here {_shape(ours)}"
                raise UserError(f"init_from={self.name} is of another architecture: {sizes}")
            ours[tuple(slice(size) for size in its.shape)] = its

    def _fits(self, theirs: Tensor, ours: Tensor) -> bool:
        n_known = self.trained.tokenizer.vocab_size
        return theirs.dim() == ours.dim() and all(
            its == own or its == n_known < own for its, own in zip(theirs.shape, ours.shape, strict=True)
        )

    def _check_same_tokenizer(self, config: dict[str, Any]) -> None:
        then = self.trained.config["tokenizer"]
        if then != config:
            kind = self.trained.tokenizer.state_dict()["kind"]
            options = [f"tokenizer.{key}={value}" for key, value in then.items() if not key.startswith("_")]
            raise UserError(
                f"init_from={self.name} was trained with {' '.join([f'tokenizer={kind}', *options])}: say the same here"
            )

    def _check_same_architecture(self, config: dict[str, Any]) -> None:
        then = self.trained.config["model"]
        different = [
            f"model.{key} was {then[key]} and is {value}"
            for key, value in config.items()
            if key not in FREE and then.get(key, value) != value
        ]
        if different:
            raise UserError(
                f"init_from={self.name} is of another architecture: {'; '.join(different)}: say the same here"
            )


def _loaded(name: str, path: Path) -> Trained:
    try:
        with torch.random.fork_rng(devices=[]):  # a net that is built draws weights, even where others take their place
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
