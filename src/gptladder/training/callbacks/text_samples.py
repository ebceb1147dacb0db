"""Samples of text in TensorBoard."""

from __future__ import annotations

from textwrap import indent

import lightning.pytorch as L

from gptladder.data.datamodule import TextDataModule
from gptladder.generation.sampling import generate_text
from gptladder.system.errors import UserError
from gptladder.training import speed
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.loggers import tensorboard_writers


class TextSamples(L.Callback):
    """Generates text after some evaluations, with random numbers of its own: training does not change.

    Args:
        n_tokens: the length of each sample.
        every_n_steps: sample after evaluations at multiples of this, and after the last; for a small rung a sample
            takes as long as a quarter of an evaluation.
    """

    def __init__(self, *, n_tokens: int, every_n_steps: int) -> None:
        for key, number, minimum in (("n_tokens", n_tokens, 0), ("every_n_steps", every_n_steps, 1)):
            if type(number) is not int or number < minimum:
                raise UserError(f"callbacks.samples.{key}={number} must be an integer >= {minimum}")
        self.n_tokens = n_tokens
        self.every_n_steps = every_n_steps

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or (
            trainer.global_step % self.every_n_steps and trainer.global_step < trainer.max_steps
        ):
            return
        for writer in tensorboard_writers(trainer):
            assert isinstance(pl_module, LanguageModel)
            text = sample(pl_module, trainer.datamodule, self.n_tokens)  # type: ignore[attr-defined]
            # Indented, Markdown shows it as it is, line ends included.
            writer.add_text("samples", indent(text, "    "), trainer.global_step)


def sample(module: LanguageModel, data: TextDataModule, n_tokens: int) -> str:
    """Text that a network in evaluation mode generates from a newline."""
    net = speed.prepare_for_generation(module.net, same_bits=True)
    options = {"n_samples": 1, "n_tokens": n_tokens, "seed": 1337, "block_size": data.block_size}
    return "".join(generate_text(net, data.tokenizer, "", **options))
