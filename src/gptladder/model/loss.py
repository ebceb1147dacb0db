"""The loss of every rung, for training and evaluation alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the next token: ``(B, T, V)`` logits and ``(B, T)`` targets to a scalar."""
    # In fp32 also if the network computes in bf16, where a mean has three digits.
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
