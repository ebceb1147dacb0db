"""A sample of text every so often, in TensorBoard."""

from __future__ import annotations

from textwrap import indent

import lightning.pytorch as L
from torch import nn

from gptladder.data.datamodule import TextDataModule
from gptladder.generation.sampling import texts
from gptladder.system.errors import UserError
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.loggers import writers


class Samples(L.Callback):
    """Lets the net write after some evaluations, from draws of its own: what is learnt does not change.

    Args:
        n_tokens: length of each sample.
        every_n_steps: it writes after evaluations at multiples of this, and after the last; a sample takes a small
            rung as long as a quarter of an evaluation.
    """

    def __init__(self, *, n_tokens: int, every_n_steps: int) -> None:
        for key, number, least in (("n_tokens", n_tokens, 0), ("every_n_steps", every_n_steps, 1)):
            if type(number) is not int or number < least:
                raise UserError(f"callbacks.samples.{key}={number} must be a whole number of at least {least}")
        self.n_tokens = n_tokens
        self.every_n_steps = every_n_steps

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        if trainer.global_step % self.every_n_steps and trainer.global_step < trainer.max_steps:
            return
        for writer in writers(trainer):
            data = trainer.datamodule  # type: ignore[attr-defined]
            text = sample(pl_module.net, data, self.n_tokens)
            # Indented, Markdown shows it as it is, line ends included.
            writer.add_text("sample", indent(text, "    "), trainer.global_step)


def sample(net: nn.Module, data: TextDataModule, n_tokens: int) -> str:
    """What a net in evaluation mode writes when nothing is asked of it."""
    pieces = texts(net, data.tokenizer, "", n_samples=1, n_tokens=n_tokens, seed=1337, block_size=data.block_size)
    return "".join(pieces)
