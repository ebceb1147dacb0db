"""One text as a LightningDataModule: tokenizer, splits, and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning.pytorch as L
import psutil
import torch

from gptladder.data.evaluation_batches import (
    TOKENS_PER_FORWARD,
    TOKENS_PER_GPU_FORWARD,
    EstimateBatches,
    SequentialBatches,
)
from gptladder.data.merges_cache import learn_tokenizer
from gptladder.data.text import Corpus, open_corpus, tiny_shakespeare_corpus
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.data.training_batches import (
    RandomBatches,
    SequenceLengthWarmup,
    ShuffledBatches,
    TrainBatches,
    TrainLoader,
)
from gptladder.data.windows import Batch
from gptladder.system.errors import UserError

STREAMS = ("published", "independent", "shuffled")
VAL_METRICS = ("train/estimate", "val/estimate", "val/loss")


class TextDataModule(L.LightningDataModule):
    """One text: the first part for training, the rest for validation; batches are ``(x, y)`` of ``(B, T)`` each.

    There are three validation loaders, in this order: random batches of the training split, random batches of the
    validation split (together the lecture's estimate), and the whole validation split (the exact loss). Without
    ``max_epochs`` the whole training is one epoch; with it, one epoch has as many tokens as the training split.

    Args:
        path: a UTF-8 file, a pattern that matches several, or a list of these; ``None`` is Tiny Shakespeare, which
            comes with the package.
        tokenizer: builds a tokenizer from the two splits; characters by default.
        split: the fraction of characters for training.
        block_size: ``T``.
        batch_size: ``B``, the windows of one batch over all processes.
        stream: where random numbers come from. ``published`` draws every batch from torch's global generator, as the
            lecture does; ``independent`` draws training batches and estimates from generators of their own, so that
            evaluating more often does not change training; ``shuffled`` does so too, and covers the whole split
            before any window comes again.
        estimate_batches: random batches per estimate.
        seed: of the independent generators.
        cache: the directory for token files of large texts; ``None`` is the user's cache, ``False`` none.
        overfit_windows: train on that many windows only, to see whether a network can memorize them.
        sequence_length_warmup: ``{size: step}`` cuts training windows to ``size``, a divisor of ``T``, until that step.

    Raises:
        UserError: the text cannot be read, or a split is shorter than a window.
    """

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        tokenizer: Callable[[Corpus, Corpus], Tokenizer] = CharTokenizer.from_text,
        split: float = 0.9,
        block_size: int = 8,
        batch_size: int = 32,
        stream: Literal["published", "independent", "shuffled"] = "published",
        estimate_batches: int = 200,
        seed: int = 1337,
        cache: str | bool | None = None,
        overfit_windows: int | None = None,
        sequence_length_warmup: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_counts(batch_size=batch_size, estimate_batches=estimate_batches)
        if overfit_windows is not None:
            _check_counts(overfit_windows=overfit_windows)
        _check_choices(split, stream, cache)
        self.sequence_length_warmup = dict(sequence_length_warmup or {})
        _check_warmup(self.sequence_length_warmup, block_size)
        self.save_hyperparameters(ignore=["tokenizer", "sequence_length_warmup"], logger=False)
        self.block_size = block_size
        self.batch_size = batch_size
        self.stream = stream
        self.seed = seed
        self.estimate_batches = estimate_batches
        self.overfit_windows = overfit_windows
        corpus = tiny_shakespeare_corpus() if path is None else open_corpus(path)
        self.corpus_sha256 = corpus.sha256
        train, val = corpus.split(split)
        self.tokenizer = learn_tokenizer(tokenizer, train, val, cache=cache)
        self.train_tokens, self.val_tokens = encode_splits(train, val, self.tokenizer, cache=cache)
        self._check_lengths()
        self._check_batch_fits()
        self.tokens_per_char = len(self.val_tokens) / len(val)
        # None is torch's global generator.
        own = stream != "published"
        self.train_generator = torch.Generator().manual_seed(seed) if own else None
        self.estimate_generator = torch.Generator().manual_seed(seed + 1) if own else None
        self._n_drawn = 0  # training batches, before the stream below
        self._train_batches: TrainBatches | None = None

    def _check_lengths(self) -> None:
        for name, tokens in (("training", self.train_tokens), ("validation", self.val_tokens)):
            if len(tokens) <= self.block_size:
                raise UserError(
                    f"the {name} split has {len(tokens)} tokens, fewer than a window and its next token need "
                    f"({self.block_size + 1}): use a longer text, or lower model.block_size={self.block_size}"
                )

    def _check_batch_fits(self) -> None:
        needed = 4 * self.batch_size * self.block_size * self.tokenizer.vocab_size
        available = psutil.virtual_memory().total
        if needed > available:
            raise UserError(
                f"data.batch_size={self.batch_size} windows of model.block_size={self.block_size} need "
                f"{needed / 1e9:,.0f} GB for the logits alone, and this machine has {available / 1e9:,.0f}: use less"
            )

    def check_divisible(self, n_processes: int) -> None:
        """Raise a ``UserError`` if the processes cannot divide a batch evenly."""
        if self.batch_size % n_processes:
            raise UserError(
                f"data.batch_size={self.batch_size} is not divisible by the {n_processes} processes: "
                f"use a multiple of {n_processes}"
            )

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(self.train_batches(), n_batches=self._batches_per_epoch())

    def _batches_per_epoch(self) -> int:
        trainer = self.trainer
        if trainer is not None and trainer.max_epochs in (None, -1) and trainer.max_steps > 0:
            return int(trainer.max_steps * trainer.accumulate_grad_batches)
        return max(1, len(self.train_tokens) // (self.batch_size * self.block_size))

    def train_batches(self) -> TrainBatches:
        """The stream of training batches, from where it stands."""
        if self._train_batches is None:
            options: dict[str, Any] = {
                "block_size": self.block_size,
                "batch_size": self.batch_size,
                "max_windows": self.overfit_windows,
                "n_drawn": self._n_drawn,
                **self._ranks,
            }
            batches: TrainBatches
            if self.stream == "shuffled":
                batches = ShuffledBatches(self.train_tokens, seed=self.seed, **options)
            else:
                batches = RandomBatches(self.train_tokens, generator=self.train_generator, **options)
            if self.sequence_length_warmup:
                per_step = self.trainer.accumulate_grad_batches if self.trainer else 1
                sizes = {size: step * per_step for size, step in self.sequence_length_warmup.items()}
                batches = SequenceLengthWarmup(batches, sizes=sizes)
            self._train_batches = batches
        return self._train_batches

    def val_dataloader(self) -> list[EstimateBatches | SequentialBatches]:
        options = self._evaluation_options
        estimates = [
            EstimateBatches(
                tokens,
                batch_size=self.batch_size,
                n_batches=self.estimate_batches,
                generator=self.estimate_generator,
                **options,
            )
            for tokens in (self.train_tokens, self.val_tokens)
        ]
        loaders: list[EstimateBatches | SequentialBatches]
        loaders = [*estimates, SequentialBatches(self.val_tokens, **options)]
        for loader, metric in zip(loaders, VAL_METRICS, strict=True):
            loader.metric = metric
        return loaders

    def test_dataloader(self) -> SequentialBatches:
        """The validation split, each window once: there is no third split."""
        return SequentialBatches(self.val_tokens, **self._evaluation_options)

    def predict_dataloader(self) -> SequentialBatches:
        return self.test_dataloader()

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Move a batch for a CUDA GPU to pinned memory, from where it is copied while the GPU computes."""
        if not self._is_on_gpu:
            return batch
        x, y = batch  # of the same windows, not contiguous: to copy them as they are would take a copy that waits
        return x.contiguous().pin_memory(), y.contiguous().pin_memory()

    @property
    def _evaluation_options(self) -> dict[str, Any]:
        return {
            "block_size": self.block_size,
            "vocab_size": self.tokenizer.vocab_size,
            "tokens_per_forward": TOKENS_PER_GPU_FORWARD if self._is_on_gpu else TOKENS_PER_FORWARD,
            **self._ranks,
        }

    @property
    def _is_on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    @property
    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def state_dict(self) -> dict[str, Any]:
        """The state of every stream of random numbers, so that a resumed run draws the same batches."""
        n_drawn = self._n_drawn if self._train_batches is None else self._train_batches.n_drawn
        state: dict[str, Any] = {"global": torch.get_rng_state(), "n_drawn": n_drawn}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        if self.train_generator is not None and self.estimate_generator is not None:
            state["train"] = self.train_generator.get_state()
            state["estimate"] = self.estimate_generator.get_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        torch.set_rng_state(state_dict["global"])
        self._n_drawn = state_dict["n_drawn"]
        self._train_batches = None
        if "cuda" in state_dict and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state_dict["cuda"][: torch.cuda.device_count()])
        if self.train_generator is not None and self.estimate_generator is not None:
            self.train_generator.set_state(state_dict["train"])
            self.estimate_generator.set_state(state_dict["estimate"])


def text_files(path: str | list[str] | None, **options: Any) -> TextDataModule:
    """A ``TextDataModule`` that does not fall back to Tiny Shakespeare.

    Raises:
        UserError: there is no path.
    """
    if not path:
        raise UserError(f"data=text data.path={'null' if path is None else ''}: give data.path=FILE a text")
    return TextDataModule(path=path, **options)


def _check_counts(**counts: int) -> None:
    for key, number in counts.items():
        if type(number) is not int or number < 1:
            raise UserError(f"data.{key}={number} must be an integer >= 1")


def _check_warmup(sizes: dict[int, int], block_size: int) -> None:
    for size, step in sizes.items():
        if type(size) is not int or type(step) is not int or size < 1 or step < 1 or block_size % size:
            raise UserError(
                f"data.sequence_length_warmup={sizes} must give sizes that divide model.block_size={block_size} and "
                "the steps until which they are used, such as {128: 600}"
            )


def _check_choices(split: float, stream: str, cache: str | bool | None) -> None:
    if not isinstance(split, float) or not 0 < split < 1:
        raise UserError(f"data.split={split} must lie between 0 and 1, such as 0.9")
    if stream not in STREAMS:
        raise UserError(f"data.stream={stream} must be one of {', '.join(STREAMS)}")
    if cache is True or not isinstance(cache, str | bool | None):
        raise UserError(f"data.cache={cache} must be a directory, null (the user's cache) or false")
