"""Analysis of a trained net: the loss of each token, the loss by position, and what its heads attend to.

Dimensions in comments are those of ``gptladder.model.gpt``; ``N`` is the length of a text in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.data.evaluation_batches import SequentialBatches
from gptladder.model.attention import attention_weights, batch_attention_weights
from gptladder.system.errors import UserError

# The entropy of a head is a mean over this many tokens: enough for two digits, and fast.
ENTROPY_TOKENS = 4096


@dataclass(frozen=True)
class Analysis:
    """The results of an analysis; all losses and entropies in nats."""

    tokens: Tensor  # (N,) the text
    token_losses: Tensor  # (N - 1,) of all tokens but the first
    loss_by_position: Tensor  # (T,) the mean loss at each position in the window
    standard_errors: Tensor  # (T,) of these means
    head_entropies: list[Tensor]  # per layer: (H,)
    prompt: Tensor  # (P,)
    prompt_losses: Tensor  # (P - 1,)
    attention: list[Tensor]  # per layer: (H, T, T) weights over the last T tokens of the prompt


def analyze(net: nn.Module, tokens: Tensor, *, block_size: int, vocab_size: int, prompt: Tensor) -> Analysis:
    """Analyze a net on a text and a prompt.

    Args:
        net: in evaluation mode.
        tokens: the text to evaluate, ``(N,)``, ``N >= 2``.
        block_size, vocab_size: ``T`` and ``V``.
        prompt: the tokens whose attention is recorded, ``(P,)``. If they are longer than a window, the attention is
            that of the last window, as in generation; the losses are those of all windows.

    Raises:
        UserError: the text or the prompt is too short.
    """
    if not len(prompt):
        raise UserError("prompt= is empty: give at least one character, or leave out --prompt for the text's start")
    losses = token_losses(net, tokens, block_size=block_size, vocab_size=vocab_size)
    return Analysis(
        tokens=tokens,
        token_losses=losses,
        loss_by_position=loss_by_position(losses, block_size=block_size),
        standard_errors=standard_errors(losses, block_size=block_size),
        head_entropies=head_entropies(net, tokens, block_size=block_size),
        prompt=prompt,
        prompt_losses=token_losses(net, prompt, block_size=block_size, vocab_size=vocab_size),
        attention=attention_weights(net, prompt[-block_size:].long()),
    )


@torch.inference_mode()
def token_losses(net: nn.Module, tokens: Tensor, *, block_size: int, vocab_size: int) -> Tensor:
    """The loss of each token but the first, in nats.

    The text is cut into consecutive windows, as for the exact loss, which is the mean of these losses.

    Args:
        net: in evaluation mode.
        tokens: the encoded text, ``(N,)``.
        block_size, vocab_size: ``T`` and ``V``.

    Returns:
        ``(N - 1,)``; empty for a text of one token.
    """
    batches = SequentialBatches(tokens, block_size=block_size, vocab_size=vocab_size)
    losses = [F.cross_entropy(net(x).flatten(0, 1).float(), y.flatten(), reduction="none") for x, y in batches]
    return torch.cat(losses) if losses else torch.zeros(0)


def loss_by_position(losses: Tensor, *, block_size: int) -> Tensor:
    """The mean loss at each position in the window: entry ``t`` has ``t + 1`` tokens of context.

    Args:
        losses: the token losses of a text, ``(N - 1,)``.

    Returns:
        ``(T,)`` float64; shorter for a text that does not fill a window.

    Raises:
        UserError: there is nothing to predict.
    """
    if not len(losses):
        raise UserError("the text has fewer than 2 tokens; at least two are needed, one of them to predict")
    position = torch.arange(len(losses), device=losses.device) % block_size
    return torch.bincount(position, weights=losses.double()) / torch.bincount(position)


def standard_errors(losses: Tensor, *, block_size: int) -> Tensor:
    """The standard errors of these means."""
    squared = loss_by_position(losses.double().square(), block_size=block_size)
    variance = squared - loss_by_position(losses, block_size=block_size).square()
    n = torch.bincount(torch.arange(len(losses), device=losses.device) % block_size)
    return (variance.clamp(min=0) / n).sqrt()


def attention_entropy(weights: Tensor) -> Tensor:
    """The entropy of the attention weights of each head in nats, mean over positions.

    Zero is a head that always attends to one token; ``exp(entropy)`` is the effective number of tokens.

    Args:
        weights: ``(..., H, T, T)``, each row summing to one.

    Returns:
        ``(..., H)``.
    """
    mean: Tensor = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    return mean


def uniform_entropy(n_time: int) -> float:
    """The entropy of a head that attends to all earlier tokens equally: the maximum."""
    return float(torch.arange(1, n_time + 1).log().mean())


def head_entropies(net: nn.Module, tokens: Tensor, *, block_size: int) -> list[Tensor]:
    """The attention entropy of every head over the first ``ENTROPY_TOKENS`` of a text, in windows.

    Returns:
        one ``(H,)`` tensor per layer; empty for a rung without attention.
    """
    n_windows = max(1, min(len(tokens), ENTROPY_TOKENS) // block_size)
    windows = tokens[: n_windows * block_size].long().view(n_windows, -1)
    return [attention_entropy(weights).mean(dim=0) for weights in batch_attention_weights(net, windows)]
