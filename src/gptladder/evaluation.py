"""The exact loss of a net on a text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptladder.blocks import ConsecutiveBlocks
from gptladder.errors import UserError
from gptladder.loss import next_token_loss


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


def perplexity(loss: float) -> float:
    """Among how many equally likely tokens a loss in nats would be a blind guess; infinite past what floats hold."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def bits_per_char(loss: float, *, tokens_per_char: float = 1.0) -> float:
    """A loss in nats a token as bits a character, which compares runs of different tokenizers."""
    return loss * tokens_per_char / math.log(2)
