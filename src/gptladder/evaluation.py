"""The exact loss of a net on a text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptladder.blocks import ConsecutiveBlocks
from gptladder.checkpoint import Trained
from gptladder.data import split_tokens
from gptladder.errors import UserError
from gptladder.learner import next_token_loss
from gptladder.text import read_text, sha256, shakespeare


@torch.inference_mode()
def exact_loss(net: nn.Module, tokens: Tensor, *, block_size: int) -> float:
    """Mean cross-entropy in nats over a whole text, each token but the first predicted once.

    Args:
        net: in evaluation mode.
        tokens: the encoded text, ``(N,)``, ``N >= 2``.
    """
    if len(tokens) < 2:
        raise UserError(f"a text of {len(tokens)} tokens has none to predict: give at least two")
    total = 0.0
    for batch in ConsecutiveBlocks(tokens, block_size=block_size):
        total += float(next_token_loss(net, batch)) * batch[1].numel()
    return total / (len(tokens) - 1)


def validation_tokens(trained: Trained) -> Tensor:
    """The validation split that a checkpoint's run was measured on.

    Raises:
        UserError: the text is gone or is not the one that the run was trained on.
    """
    path, split = trained.config["data"]["path"], trained.config["data"]["split"]
    text = shakespeare() if path is None else read_text(path)
    if sha256(text) != trained.corpus_sha256:
        raise UserError(f"data.path={path} has changed since the run was trained: name the text to measure with --text")
    return split_tokens(trained.tokenizer.encode(text), split)[1]


def perplexity(loss: float) -> float:
    """Among how many equally likely tokens a loss in nats would be a blind guess; infinite past what floats hold."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def bits_per_char(loss: float, *, tokens_per_char: float = 1.0) -> float:
    """A loss in nats a token as bits a character, which compares runs of different tokenizers."""
    return loss * tokens_per_char / math.log(2)
