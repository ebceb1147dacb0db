"""The arrays of a GPT that compiled passes read and write: parameters and activations, by kind and layer.

Dimensions in comments are those of ``gptladder.model.gpt``; ``L`` layers, ``N`` is ``B`` times ``T``, ``J`` the ``T``
distances, ``W`` the width of a block's output, ``F`` that of the feed-forward inside.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from torch import nn

from gptladder.model.gpt import GPT


class Parameters(NamedTuple):
    """The parameters of a GPT, or their gradients: a list per kind, with one array per layer that has it."""

    tokens: Any  # (1, V, C)
    positions: Any  # (1, T, C)
    gain1: Any  # (L, C)
    shift1: Any  # (L, C)
    qkv: Any  # (L, 3*H*D, C)
    projection: Any  # (L, W, H*D)
    projection_bias: Any  # (L, W)
    gain2: Any  # (L, W)
    shift2: Any  # (L, W)
    mlp1: Any  # (L, F, W)
    mlp1_bias: Any  # (L, F)
    mlp2: Any  # (L, W, F)
    mlp2_bias: Any  # (L, W)
    final_gain: Any  # (1, W)
    final_shift: Any  # (1, W)
    head: Any  # (1, V, W)
    head_bias: Any  # (1, V)

    @classmethod
    def from_net(cls, net: GPT) -> Parameters:
        """Lists of the parameters of a network that ``NumbaGPT`` supports."""
        blocks: Any = net.blocks
        mlps = [block.mlp for block in blocks if block.mlp is not None]
        modules: list[list[nn.Module]] = [
            [block.norm1 for block in blocks],
            [block.attention.qkv for block in blocks],
            [block.attention.projection for block in blocks],
            [block.norm2 for block in blocks],
            [mlp[0] for mlp in mlps],
            [mlp[2] for mlp in mlps if len(mlp) > 2],
            [net.final_norm],
            [net.lm_head],
        ]
        pairs = [
            [[getattr(module, name) for module in kind if hasattr(module, name)] for name in ("weight", "bias")]
            for kind in modules
        ]
        norm1, (qkv, _), *others = pairs
        embedding: Any = net.embedding
        rest: list[Any] = [*norm1, qkv, *itertools.chain(*others)]
        return cls([embedding.token.weight], [embedding.position.weight], *rest)


class Activations(NamedTuple):
    """What a forward pass leaves for the backward pass, or the gradients of a part of it; ``L`` layers each."""

    embedded: Any  # (1, C, N) the input of the first block
    xhat1: Any  # (L, C, N) the input of each block, normalized, before gain and shift
    rstd1: Any  # (L, N) one over its standard deviation
    norm1: Any  # (L, C, N)
    qkv: Any  # (L, 3*H*D, N)
    query: Any  # (L, H, D, N), a part of it
    key: Any  # (L, H, D, N)
    value: Any  # (L, H, D, N)
    weights: Any  # (L, H, J, N)
    y: Any  # (L, H*D, N) of attention, before the projection
    y_heads: Any  # (L, H, D, N), the same memory
    attention_out: Any  # (L, W, N) the input of each feed-forward
    xhat2: Any  # (L, W, N)
    rstd2: Any  # (L, N)
    norm2: Any  # (L, W, N)
    hidden: Any  # (L, F, N) after ReLU
    output: Any  # (L, W, N) of each block
    final_xhat: Any  # (1, W, N)
    final_rstd: Any  # (1, N)
    final_norm: Any  # (1, W, N)
    logits: Any  # (1, V, N)

    @classmethod
    def allocate(cls, net: GPT, n: int, n_time: int, n_layer: int) -> Activations:
        block: Any = net.blocks[0]
        n_head, head_size, n_embd = block.attention.n_head, block.attention.head_size, block.attention.qkv.in_features
        n_hidden = 0 if block.mlp is None else block.mlp[0].out_features
        vocab_size, width = net.lm_head.weight.shape
        empty = net.lm_head.weight.detach().new_empty
        qkv, y = empty(n_layer, 3, n_head, head_size, n), empty(n_layer, n_head, head_size, n)
        return cls(
            embedded=empty(1, n_embd, n),
            xhat1=empty(n_layer, n_embd, n),
            rstd1=empty(n_layer, n),
            norm1=empty(n_layer, n_embd, n),
            qkv=qkv.flatten(1, 3),
            query=qkv[:, 0],
            key=qkv[:, 1],
            value=qkv[:, 2],
            weights=empty(n_layer, n_head, n_time, n),
            y=y.flatten(1, 2),
            y_heads=y,
            attention_out=empty(n_layer, width, n),
            xhat2=empty(n_layer, width, n),
            rstd2=empty(n_layer, n),
            norm2=empty(n_layer, width, n),
            hidden=empty(n_layer, n_hidden, n),
            output=empty(n_layer, width, n),
            final_xhat=empty(1, width, n),
            final_rstd=empty(1, n),
            final_norm=empty(1, width, n),
            logits=empty(1, vocab_size, n),
        )


class Options(NamedTuple):
    """What is the same in all blocks."""

    scale: float  # of attention scores
    eps: float
    residual: bool
