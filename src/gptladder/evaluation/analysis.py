"""A look inside a trained net: what surprised it, what each further token of context is worth, what its heads read.

Dimensions in comments are those of ``gptladder.model.gpt``; ``N`` is the length of a text in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.data.batches import SequentialBatches
from gptladder.model.attention import attention_weights, batch_attention_weights
from gptladder.runs.checkpoint import Trained
from gptladder.system.errors import UserError

# Tokens over which the entropy of a head is averaged: enough for two digits, and little beside the whole split.
ENTROPY_TOKENS = 4096


@dataclass(frozen=True)
class Inspection:
    """What a look inside found; every surprise in nats."""

    tokens: Tensor  # (N,) the text that it was measured on
    surprise: Tensor  # (N - 1,) of each of them but the first
    by_position: Tensor  # (T,) the mean surprise at each place in the block
    errors: Tensor  # (T,) the standard error of each of those means
    entropies: list[Tensor]  # a layer: (H,)
    prompt: Tensor  # (P,)
    prompt_surprise: Tensor  # (P - 1,)
    maps: list[Tensor]  # a layer: (H, T, T), of the last T tokens of the prompt


def inspect(trained: Trained, tokens: Tensor, *, prompt: Tensor) -> Inspection:
    """Look at a run while it reads a text and a prompt.

    Args:
        tokens: the text to measure on, ``(N,)``, ``N >= 2``.
        prompt: whose attention is drawn, ``(P,)``. Of one longer than a block the net sees the last block, as when it
            writes on; its surprise is that of all blocks in turn.

    Raises:
        UserError: the text or the prompt is too short.
    """
    if not len(prompt):
        raise UserError("prompt= is empty: give at least one character, or leave --prompt out for the text's start")
    net, block_size = trained.net, trained.block_size
    nats = surprise(net, tokens, block_size=block_size)
    return Inspection(
        tokens=tokens,
        surprise=nats,
        by_position=loss_by_position(nats, block_size=block_size),
        errors=error_by_position(nats, block_size=block_size),
        entropies=head_entropies(net, tokens, block_size=block_size),
        prompt=prompt,
        prompt_surprise=surprise(net, prompt, block_size=block_size),
        maps=attention_weights(net, prompt[-block_size:].long()),
    )


@torch.inference_mode()
def surprise(net: nn.Module, tokens: Tensor, *, block_size: int) -> Tensor:
    """How unlikely each token but the first was to the net, in nats: ``-log softmax`` of what came.

    The text is cut into consecutive blocks, as for the exact loss, which is the mean of these.

    Args:
        net: in evaluation mode.
        tokens: the encoded text, ``(N,)``.

    Returns:
        ``(N - 1,)``; nothing for a text of one token.
    """
    blocks = SequentialBatches(tokens, block_size=block_size)
    nats = [F.cross_entropy(net(x).flatten(0, 1).float(), y.flatten(), reduction="none") for x, y in blocks]
    return torch.cat(nats) if nats else torch.zeros(0)


def loss_by_position(nats: Tensor, *, block_size: int) -> Tensor:
    """The mean surprise at each place in the block: entry ``t`` is predicted from ``t + 1`` tokens.

    Args:
        nats: the surprises of a text, ``(N - 1,)``.

    Returns:
        ``(T,)`` float64, shorter for a text that fills no block.

    Raises:
        UserError: there is nothing to predict.
    """
    if not len(nats):
        raise UserError("a text of less than two tokens has none to predict: give at least two")
    place = torch.arange(len(nats)) % block_size
    return torch.bincount(place, weights=nats.double()) / torch.bincount(place)


def error_by_position(nats: Tensor, *, block_size: int) -> Tensor:
    """The standard error of each of those means: what is within it says nothing about the net."""
    squared = loss_by_position(nats.double().square(), block_size=block_size)
    variance = squared - loss_by_position(nats, block_size=block_size).square()
    n = torch.bincount(torch.arange(len(nats)) % block_size)
    return (variance.clamp(min=0) / n).sqrt()


def entropy(weights: Tensor) -> Tensor:
    """How widely each head reads: the entropy of its weights in nats, mean over positions.

    Zero is a head that always reads one token; its exponential is among how many a head spreads itself.

    Args:
        weights: ``(..., H, T, T)``, each row summing to one.

    Returns:
        ``(..., H)``.
    """
    mean: Tensor = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    return mean


def even_entropy(n_time: int) -> float:
    """The entropy of a head that reads all of its past evenly, which none can exceed."""
    return float(torch.arange(1, n_time + 1).log().mean())


def head_entropies(net: nn.Module, tokens: Tensor, *, block_size: int) -> list[Tensor]:
    """The entropy of every head over the first ``ENTROPY_TOKENS`` of a text, in blocks.

    Returns:
        one ``(H,)`` tensor a layer; empty for a rung that does not attend.
    """
    n_blocks = max(1, min(len(tokens), ENTROPY_TOKENS) // block_size)
    blocks = tokens[: n_blocks * block_size].long().view(n_blocks, -1)
    return [entropy(weights).mean(dim=0) for weights in batch_attention_weights(net, blocks)]
