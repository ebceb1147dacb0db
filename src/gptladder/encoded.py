"""A text as the tokens of its two splits."""

from __future__ import annotations

import io
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptladder.text import Text
from gptladder.tokenizer import Tokenizer


class Encoded(NamedTuple):
    """The tokens of the training and the validation split, ``(N,)`` each."""

    train: Tensor
    val: Tensor


def encoded(train: Text, val: Text, tokenizer: Tokenizer) -> Encoded:
    """Encode two splits, each by itself: no token reaches from one into the other."""
    file = io.BytesIO()
    n_train, n_val = (_write(file, split, tokenizer) for split in (train, val))
    dtype = tokenizer.encode("").numpy().dtype
    flat = torch.from_numpy(np.frombuffer(file.getbuffer(), dtype, n_train + n_val))
    return Encoded(flat[:n_train], flat[n_train:])


def _write(file: BinaryIO, split: Text, tokenizer: Tokenizer) -> int:
    """Append the tokens of a split; returns how many they are."""
    n_tokens = 0
    for piece in split:
        tokens = tokenizer.encode(piece)
        file.write(tokens.numpy().data)
        n_tokens += len(tokens)
    return n_tokens
