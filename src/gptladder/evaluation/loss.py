"""The exact loss of a network on a text, and its units."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptladder.data.evaluation_batches import SequentialBatches
from gptladder.evaluation.accumulator import LossAccumulator
from gptladder.model.loss import next_token_loss
from gptladder.system.errors import UserError


@torch.inference_mode()
def exact_loss(net: nn.Module, tokens: Tensor, *, block_size: int, vocab_size: int) -> float:
    """Mean cross-entropy in nats over a whole text, each token but the first predicted once.

    Args:
        net: in evaluation mode.
        tokens: the encoded text, ``(N,)``, ``N >= 2``.
        block_size: ``T``; the text is cut into consecutive windows.
        vocab_size: ``V``; with a large one, fewer tokens go through the network at a time.

    Raises:
        UserError: the text has fewer than two tokens.
    """
    if len(tokens) < 2:
        raise UserError(f"the text has {len(tokens)} token{'s'[: len(tokens) != 1]}; at least 2 are needed")
    losses = LossAccumulator()
    for x, y in SequentialBatches(tokens, block_size=block_size, vocab_size=vocab_size):
        losses.add(next_token_loss(net(x), y), y.numel())
    total, n_tokens = losses.compute().tolist()
    return float(total / n_tokens)


def evaluate_tokens(
    net: nn.Module, tokens: Tensor, *, block_size: int, vocab_size: int, tokens_per_char: float
) -> dict[str, float]:
    """The exact loss on a text in its three units, and the number of predictions; arguments as for ``exact_loss``."""
    loss = exact_loss(net, tokens, block_size=block_size, vocab_size=vocab_size)
    return {
        "loss": loss,
        "bits_per_char": bits_per_char(loss, tokens_per_char=tokens_per_char),
        "perplexity": perplexity(loss),
        "n_predictions": len(tokens) - 1,
    }


def perplexity(loss: float) -> float:
    """``exp(loss)``; infinite on overflow."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def bits_per_char(loss: float, *, tokens_per_char: float) -> float:
    """A loss in nats per token as bits per character, which is comparable between tokenizers."""
    return loss * tokens_per_char / math.log(2)
