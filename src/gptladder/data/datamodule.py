"""Text, tokenizer, encoded splits and blocks, as Lightning wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning.pytorch as L
import torch

from gptladder.data.batches import (
    EstimateBatches,
    RandomBatches,
    SequenceLengthWarmup,
    SequentialBatches,
    ShuffledBatches,
    TrainBatches,
)
from gptladder.data.stretch import Stretches
from gptladder.data.text import Text, open_corpus, tiny_shakespeare_corpus
from gptladder.data.token_cache import encoded
from gptladder.data.tokenizer import Tokenizer
from gptladder.evaluation.accumulator import Part
from gptladder.system.errors import UserError

STREAMS = ("published", "independent", "shuffled")


class TextDataModule(L.LightningDataModule):
    """One text, split into a front for training and a tail for validation.

    Validation has three parts in a fixed order: an estimate on each split, then the whole validation split.

    Args:
        path: a UTF-8 file, or a pattern that matches several; ``None`` is Tiny Shakespeare from inside the package.
        tokenizer: builds a tokenizer from the two splits.
        split: the share of characters that is trained on.
        block_size: ``T``.
        batch_size: ``B``, the blocks of one step over all processes.
        stream: ``published`` draws every batch from torch's global generator, as the lecture does;
            ``independent`` draws training blocks and estimates from generators of their own, so that how often
            one evaluates cannot change what is learnt; ``shuffled`` does, too, and trains on every block of the split
            once before any comes again.
        estimate_batches: random batches of one estimate.
        seed: seeds the independent generators.
        cache: the directory for encodings of large texts; ``None`` is the user's, ``False`` none.
        overfit_blocks: train on so many blocks alone, to see whether a net learns them by heart.
        length_warmup: ``{size: step}`` cuts the blocks of training to ``size``, which divides ``T``, until that step.

    Raises:
        UserError: the text cannot be read, or a split is shorter than a block.
    """

    def __init__(
        self,
        *,
        path: str | None,
        tokenizer: Callable[[Text, Text], Tokenizer],
        split: float,
        block_size: int,
        batch_size: int,
        stream: Literal["published", "independent", "shuffled"],
        estimate_batches: int,
        seed: int,
        cache: str | bool | None = None,
        overfit_blocks: int | None = None,
        length_warmup: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_counts(batch_size=batch_size, estimate_batches=estimate_batches)
        if overfit_blocks is not None:
            _check_counts(overfit_blocks=overfit_blocks)
        _check_choices(split, stream, cache)
        self.length_warmup = dict(length_warmup or {})
        _check_warmup(self.length_warmup, block_size)
        self.overfit_blocks = overfit_blocks
        self.block_size = block_size
        self.batch_size = batch_size
        self.estimate_batches = estimate_batches
        self.stream = stream
        self.seed = seed
        # How training is cut up, and whether the net may draw from the same random numbers: the trainer's to say.
        self.steps_per_stretch = 1
        self.batches_per_step = 1
        self.net_draws = True
        text = tiny_shakespeare_corpus() if path is None else open_corpus(path)
        self.corpus_sha256 = text.sha256
        train, val = text.split(split)
        self.tokenizer = tokenizer(train, val)
        self.train_tokens, self.val_tokens = encoded(train, val, self.tokenizer, cache=cache)
        self._check_lengths()
        self.tokens_per_char = len(self.val_tokens) / len(val)  # of what is measured
        # None is torch's global generator.
        self.train_generator: torch.Generator | None = None
        self.estimate_generator: torch.Generator | None = None
        if stream != "published":
            self.train_generator = torch.Generator().manual_seed(seed)
            self.estimate_generator = torch.Generator().manual_seed(seed + 1)

    def _check_lengths(self) -> None:
        for name, part in (("training", self.train_tokens), ("validation", self.val_tokens)):
            if len(part) <= self.block_size:
                raise UserError(
                    f"the {name} split has {len(part)} tokens, fewer than a block and its successor need "
                    f"({self.block_size + 1}): give a longer text, or lower model.block_size={self.block_size}"
                )

    def check_shares(self, n_processes: int) -> None:
        """Raise a ``UserError`` if the processes could not share a batch evenly."""
        if self.batch_size % n_processes:
            raise UserError(
                f"data.batch_size={self.batch_size} is not divisible by the {n_processes} processes: "
                f"take a multiple of {n_processes}"
            )

    def train_dataloader(self) -> Stretches:
        assert self.trainer is not None
        return Stretches(
            self.train_blocks(),
            first_step=self.trainer.global_step,
            max_steps=self.trainer.max_steps,
            n_steps=self.steps_per_stretch,
            batches_per_step=self.batches_per_step,
            ahead=self.train_generator is not None or not self.net_draws,
        )

    def train_blocks(self) -> TrainBatches:
        """Training batches from where this run's stream stands."""
        cut: dict[str, Any] = {
            "block_size": self.block_size,
            "batch_size": self.batch_size,
            "only": self.overfit_blocks,
            **self._ranks,
        }
        first = (self.trainer.global_step if self.trainer else 0) * self.batches_per_step
        blocks: RandomBatches | ShuffledBatches
        if self.stream == "shuffled":
            blocks = ShuffledBatches(self.train_tokens, seed=self.seed, first=first, **cut)
        else:
            blocks = RandomBatches(self.train_tokens, generator=self.train_generator, **cut)
        if not self.length_warmup:
            return blocks
        until = {size: step * self.batches_per_step for size, step in self.length_warmup.items()}
        return SequenceLengthWarmup(blocks, sizes=until, first=first)

    def val_dataloader(self) -> list[Part]:
        shared = {"vocab_size": self.tokenizer.vocab_size, **self._ranks}
        estimates = [
            EstimateBatches(
                tokens,
                block_size=self.block_size,
                batch_size=self.batch_size,
                n_batches=self.estimate_batches,
                generator=self.estimate_generator,
                **shared,
            )
            for tokens in (self.train_tokens, self.val_tokens)
        ]
        exact = SequentialBatches(self.val_tokens, block_size=self.block_size, **shared)
        return [*map(Part, estimates), Part(exact)]

    @property
    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def state_dict(self) -> dict[str, Any]:
        """Where every stream of random numbers stands, so that a resumed run draws on as if never stopped."""
        state: dict[str, Any] = {"global": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        if self.train_generator is not None and self.estimate_generator is not None:
            state["train"] = self.train_generator.get_state()
            state["estimate"] = self.estimate_generator.get_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        torch.set_rng_state(state_dict["global"])
        if "cuda" in state_dict and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state_dict["cuda"])
        if self.train_generator is not None and self.estimate_generator is not None:
            self.train_generator.set_state(state_dict["train"])
            self.estimate_generator.set_state(state_dict["estimate"])


def _check_counts(**counts: int) -> None:
    for key, number in counts.items():
        if type(number) is not int or number < 1:
            raise UserError(f"data.{key}={number} must be a whole number of at least 1")


def _check_warmup(sizes: dict[int, int], block_size: int) -> None:
    for size, step in sizes.items():
        if type(size) is not int or type(step) is not int or size < 1 or step < 1 or block_size % size:
            raise UserError(
                f"data.length_warmup={sizes} must give sizes that divide model.block_size={block_size} and the steps "
                "until which they hold, such as {128: 600}"
            )


def _check_choices(split: float, stream: str, cache: str | bool | None) -> None:
    if not isinstance(split, float) or not 0 < split < 1:
        raise UserError(f"data.split={split} must lie between 0 and 1, such as 0.9")
    if stream not in STREAMS:
        raise UserError(f"data.stream={stream} must be one of {', '.join(STREAMS)}")
    if cache is True or not isinstance(cache, str | bool | None):
        raise UserError(f"data.cache={cache} must be a directory, null (the user's own) or false")
