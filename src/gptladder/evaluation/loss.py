"""The exact loss of a net on a text."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gptladder.data.batches import SequentialBatches
from gptladder.data.text import read_text
from gptladder.evaluation.accumulator import LossAccumulator
from gptladder.model.loss import next_token_loss
from gptladder.runs.checkpoint import Trained, recorded_corpus, recorded_tokens
from gptladder.system.errors import UserError


@torch.inference_mode()
def exact_loss(net: nn.Module, tokens: Tensor, *, block_size: int, vocab_size: int = 1) -> float:
    """Mean cross-entropy in nats over a whole text, each token but the first predicted once.

    Args:
        net: in evaluation mode.
        tokens: the encoded text, ``(N,)``, ``N >= 2``.
        vocab_size: ``V``; where it is large, less goes through the net at once.
    """
    if len(tokens) < 2:
        raise UserError(f"a text of {len(tokens)} tokens has none to predict: give at least two")
    measuring = LossAccumulator(partial(next_token_loss, net), 1, side_by_side=1, device=tokens.device)
    for batch in SequentialBatches(tokens, block_size=block_size, vocab_size=vocab_size):
        measuring.add(0, batch)
    ((total, n_tokens),) = measuring.finish().tolist()
    return float(total / n_tokens)


class Measured(NamedTuple):
    """What a loss is measured on: tokens, ``(N,)``, and how many of them there are to a character."""

    tokens: Tensor
    tokens_per_char: float


def validation_split(trained: Trained) -> Measured:
    """What a checkpoint's run was measured on.

    Raises:
        UserError: the text is gone or is not the one that the run was trained on.
    """
    tokens = recorded_tokens(trained).val
    return Measured(tokens, len(tokens) / len(recorded_corpus(trained)[1]))


def other_text(trained: Trained, path: Path) -> Measured:
    """Another text, as a checkpoint's tokenizer encodes it.

    Raises:
        UserError: the text cannot be read, or not be encoded.
    """
    text = read_text(path, key="--text")
    tokens = trained.tokenizer.encode(text)
    return Measured(tokens, len(tokens) / len(text))


def perplexity(loss: float) -> float:
    """Among how many equally likely tokens a loss in nats would be a blind guess; infinite past what floats hold."""
    return float(torch.tensor(loss, dtype=torch.float64).exp())


def bits_per_char(loss: float, *, tokens_per_char: float) -> float:
    """A loss in nats a token as bits a character, which compares runs of different tokenizers."""
    return loss * tokens_per_char / math.log(2)
