"""One token at a time through a GPT, with a compiled function per block.

A token of one sample is so little work that calling PyTorch's kernels takes longer than the arithmetic in them. With a
network of 4 layers of 128 and a context of 256, a token takes a third of the time.

Sums are taken in another order than by PyTorch: logits agree to rounding. Dimensions in comments are those of
``gptladder.model.gpt``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptladder.fast.numba_loops import Array, njit_reordered
from gptladder.model.block import Block
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache


def use_numba_decoding(net: GPT) -> None:
    """Let a lean copy for which ``can_decode`` is true compute single tokens with ``decode_block``."""
    net.__class__ = DecodingGPT
    vars(net)["weights"] = [_weights(block) for block in net.blocks]  # type: ignore[arg-type]


class DecodingGPT(GPT):
    """``GPT`` that computes one token of one sample with ``decode_block``."""

    plain_class = GPT
    weights: list[list[Array]]  # of each block, in the order of the arguments of `decode_block`

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        single = cache is not None and 0 < cache.length < self.block_size and idx.shape == (1, 1)
        if cache is None or not single or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(idx, cache)
        x: Tensor = self.embedding(idx, cache)
        row = x.view(-1).numpy()
        blocks: Any = self.blocks
        for block, weights in zip(blocks, self.weights, strict=True):
            keys, values = (buffer[0].numpy() for buffer in cache.buffers(block.attention))
            decode_block(row, keys, values, cache.length, block.attention.scale, block.norm1.eps, *weights)
        cache.length += 1
        logits: Tensor = self.lm_head(self.final_norm(x))
        return logits


def _weights(block: Block) -> list[Array]:
    attention: Any = block.attention
    mlp: Any = block.mlp
    parts: Any = (block.norm1, attention.qkv, attention.projection, block.norm2, mlp[0], mlp[2])
    tensors = [tensor for part in parts for tensor in (part.weight, part.bias) if tensor is not None]
    return [tensor.detach().numpy() for tensor in tensors]


@njit_reordered
def decode_block(
    x: Array,  # (C,) changed in place
    keys: Array,  # (H, T, D)
    values: Array,
    position: int,
    scale: float,
    eps: float,
    gain1: Array,
    shift1: Array,
    qkv: Array,
    projection: Array,
    projection_bias: Array,
    gain2: Array,
    shift2: Array,
    mlp1: Array,
    mlp1_bias: Array,
    mlp2: Array,
    mlp2_bias: Array,
) -> None:
    """A pre-norm block with residual connections and ReLU, at one position."""
    n_embd, width = len(x), keys.shape[0] * keys.shape[2]
    normed, heads, y = np.empty(n_embd, x.dtype), np.zeros(3 * width, x.dtype), np.zeros(width, x.dtype)
    _normalize_vector(x, gain1, shift1, eps, normed)
    _add_matvec(qkv, normed, heads)
    _attend(heads, keys, values, position, scale, y)
    for c in range(n_embd):
        x[c] += projection_bias[c]
    _add_matvec(projection, y, x)
    _normalize_vector(x, gain2, shift2, eps, normed)
    hidden = mlp1_bias.copy()
    _add_matvec(mlp1, normed, hidden)
    for c in range(len(hidden)):
        hidden[c] = max(hidden[c], x.dtype.type(0))
    for c in range(n_embd):
        x[c] += mlp2_bias[c]
    _add_matvec(mlp2, hidden, x)


@njit_reordered
def _attend(heads: Array, keys: Array, values: Array, position: int, scale: float, out: Array) -> None:
    """Keep the key and the value of a position, and add to ``out`` what its heads read from all up to it.

    Args:
        heads: queries of all heads, then keys, then values, ``(3*H*D,)``.
        out: ``(H*D,)``.
    """
    n_head, _, head_size = keys.shape
    number, width = out.dtype.type, len(out)
    weights = np.empty(position + 1, out.dtype)
    for h in range(n_head):
        first = h * head_size
        for d in range(head_size):
            keys[h, position, d] = heads[width + first + d]
            values[h, position, d] = heads[2 * width + first + d]
        largest, total = number(-np.inf), number(0)
        for t in range(position + 1):
            score = number(0)
            for d in range(head_size):
                score += heads[first + d] * keys[h, t, d]
            weights[t] = score * number(scale)
            largest = max(largest, weights[t])
        for t in range(position + 1):
            weights[t] = np.exp(weights[t] - largest)
            total += weights[t]
        for t in range(position + 1):
            weight = weights[t] / total
            for d in range(head_size):
                out[first + d] += weight * values[h, t, d]


@njit_reordered
def _normalize_vector(x: Array, gain: Array, shift: Array, eps: float, out: Array) -> None:
    number = x.dtype.type
    mean, square = number(0), number(0)
    for c in range(len(x)):
        mean += x[c]
    mean /= number(len(x))
    for c in range(len(x)):
        square += (x[c] - mean) ** 2
    deviation = number(1) / np.sqrt(square / number(len(x)) + number(eps))
    for c in range(len(x)):
        out[c] = (x[c] - mean) * deviation * gain[c] + shift[c]


@njit_reordered
def _add_matvec(weight: Array, x: Array, out: Array) -> None:
    """``out += weight @ x``."""
    for o in range(len(weight)):
        total = x.dtype.type(0)
        for c in range(len(x)):
            total += weight[o, c] * x[c]
        out[o] += total
