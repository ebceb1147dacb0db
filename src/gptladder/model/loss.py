"""The loss that every rung learns by and is measured by.

This file knows no Lightning, so that a measurement need not wait for its import.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.data.batches import Batch


def next_token_loss(net: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy, in nats, of every next token in a batch."""
    x, y = batch
    # In fp32 whatever the net computes in: a mean in bf16 has three digits.
    return F.cross_entropy(net(x).flatten(0, 1).float(), y.flatten())  # (B, T, V), (B, T) -> ()
