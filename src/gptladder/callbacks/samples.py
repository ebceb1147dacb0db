"""A sample of text at every evaluation, in TensorBoard."""

from __future__ import annotations

from textwrap import indent

import lightning.pytorch as L
from torch import nn

from gptladder.data import TextData
from gptladder.errors import UserError
from gptladder.learner import Learner
from gptladder.loggers import writers
from gptladder.sampling import texts


class Samples(L.Callback):
    """Lets the net write after every evaluation, from draws of its own: what is learnt does not change.

    Args:
        n_tokens: length of each sample.
    """

    def __init__(self, *, n_tokens: int) -> None:
        if type(n_tokens) is not int or n_tokens < 0:
            raise UserError(f"callbacks.samples.n_tokens={n_tokens} must be a whole number of at least 0")
        self.n_tokens = n_tokens

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        for writer in writers(trainer):
            data = trainer.datamodule  # type: ignore[attr-defined]
            text = sample(pl_module.net, data, self.n_tokens)
            # Indented, Markdown shows it as it is, line ends included.
            writer.add_text("sample", indent(text, "    "), trainer.global_step)


def sample(net: nn.Module, data: TextData, n_tokens: int) -> str:
    """What a net in evaluation mode writes when nothing is asked of it."""
    pieces = texts(net, data.tokenizer, "", n_samples=1, n_tokens=n_tokens, seed=1337, block_size=data.block_size)
    return "".join(pieces)
