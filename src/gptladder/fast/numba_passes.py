"""The forward and backward pass of the lecture's GPT, with its gradients as one derives them with pen and paper.

As in the lecture "Becoming a Backprop Ninja", and in llm.c. The loops that they call are compiled.

Dimensions in comments are those of ``gptladder.model.gpt``; ``L`` layers, ``N`` is ``B`` times ``T``, ``J`` the ``T``
distances, ``W`` the width of a block's output, ``F`` that of the feed-forward inside.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from torch import nn

from gptladder.fast.numba_loops import (
    Array,
    add,
    all_below,
    copy,
    dot_products,
    embed,
    embed_backward,
    linear,
    linear_backward,
    normalize,
    normalize_backward,
    product,
    relu,
    relu_backward,
    softmax,
    softmax_backward,
    sum_rows,
    weighted_sum,
)
from gptladder.model.gpt import GPT


class Parameters(NamedTuple):
    """The parameters of a GPT, or their gradients: those of all layers, stacked; none where it has none."""

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
    def lists(cls, net: GPT) -> Parameters:
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

    @classmethod
    def allocate(cls, parameters: Parameters) -> Parameters:
        """Tensors for lists of parameters."""
        like = parameters.head[0].detach()
        matrices = ("tokens", "positions", "qkv", "projection", "mlp1", "mlp2", "head")
        return cls(
            *(
                like.new_empty(len(layers), *(layers[0].shape if layers else [0] * (2 if name in matrices else 1)))
                for name, layers in zip(cls._fields, parameters, strict=True)
            )
        )


class Activations(NamedTuple):
    """What a forward pass leaves for the backward pass, or the gradients of a part of it; ``L`` layers each."""

    embedded: Any  # (1, C, N) the input of the first block
    unit1: Any  # (L, C, N) the input of each block, normalized, before gain and shift
    deviation1: Any  # (L, N) one over its standard deviation
    normed1: Any  # (L, C, N)
    qkv: Any  # (L, 3*H*D, N)
    query: Any  # (L, H, D, N), a part of it
    key: Any  # (L, H, D, N)
    value: Any  # (L, H, D, N)
    weights: Any  # (L, H, J, N)
    y: Any  # (L, H*D, N) of attention, before the projection
    y_heads: Any  # (L, H, D, N), the same memory
    middle: Any  # (L, W, N) the input of each feed-forward
    unit2: Any  # (L, W, N)
    deviation2: Any  # (L, N)
    normed2: Any  # (L, W, N)
    hidden: Any  # (L, F, N) after ReLU
    output: Any  # (L, W, N) of each block
    final_unit: Any  # (1, W, N)
    final_deviation: Any  # (1, N)
    final_normed: Any  # (1, W, N)
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
            unit1=empty(n_layer, n_embd, n),
            deviation1=empty(n_layer, n),
            normed1=empty(n_layer, n_embd, n),
            qkv=qkv.flatten(1, 3),
            query=qkv[:, 0],
            key=qkv[:, 1],
            value=qkv[:, 2],
            weights=empty(n_layer, n_head, n_time, n),
            y=y.flatten(1, 2),
            y_heads=y,
            middle=empty(n_layer, width, n),
            unit2=empty(n_layer, width, n),
            deviation2=empty(n_layer, n),
            normed2=empty(n_layer, width, n),
            hidden=empty(n_layer, n_hidden, n),
            output=empty(n_layer, width, n),
            final_unit=empty(1, width, n),
            final_deviation=empty(1, n),
            final_normed=empty(1, width, n),
            logits=empty(1, vocab_size, n),
        )


def forward_pass(idx: Array, w: Parameters, a: Activations, scale: float, eps: float, residual: bool) -> bool:
    """Whether all token numbers are in the vocabulary; if so, everything in ``a`` is computed."""
    if not all_below(idx, len(w.tokens[0])):
        return False
    n_time = a.weights[0].shape[1]
    embed(idx, w.tokens[0], w.positions[0], n_time, a.embedded[0])
    x = a.embedded[0]
    for layer in range(len(w.qkv)):
        out = a.middle[layer]
        if w.gain1:
            normalize(x, w.gain1[layer], w.shift1[layer], eps, a.unit1[layer], a.deviation1[layer], a.normed1[layer])
        weights = a.weights[layer]
        product(w.qkv[layer], a.normed1[layer] if w.gain1 else x, a.qkv[layer])
        dot_products(a.query[layer], a.key[layer], scale, -math.inf, weights)
        softmax(weights)
        weighted_sum(weights, a.value[layer], False, a.y_heads[layer])
        if w.projection:
            linear(w.projection[layer], w.projection_bias[layer], a.y[layer], out)
        else:
            copy(a.y[layer], out)
        if residual:
            add(x, out)
        x = out
        if not w.mlp1:
            continue
        out = a.output[layer]
        if w.gain2:
            normalize(x, w.gain2[layer], w.shift2[layer], eps, a.unit2[layer], a.deviation2[layer], a.normed2[layer])
        hidden = a.hidden[layer]
        linear(w.mlp1[layer], w.mlp1_bias[layer], a.normed2[layer] if w.gain2 else x, hidden)
        relu(hidden)
        if w.mlp2:
            linear(w.mlp2[layer], w.mlp2_bias[layer], hidden, out)
        else:
            copy(hidden, out)
        if residual:
            add(x, out)
        x = out
    if w.final_gain:
        normalize(x, w.final_gain[0], w.final_shift[0], eps, a.final_unit[0], a.final_deviation[0], a.final_normed[0])
    linear(w.head[0], w.head_bias[0], a.final_normed[0] if w.final_gain else x, a.logits[0])
    return True


def backward_pass(
    idx: Array, w: Parameters, a: Activations, g: Activations, out: Parameters, scale: float, eps: float, residual: bool
) -> None:
    """The gradients of the parameters, ``out``, from that of the logits, ``g.logits[0]``; ``g`` is for one layer."""
    n_time = a.weights[0].shape[1]
    outputs = a.output if w.mlp1 else a.middle
    grad = g.output[0]
    last = a.final_normed[0] if w.final_gain else outputs[-1]
    linear_backward(w.head[0], last, g.logits[0], grad, out.head[0])
    sum_rows(g.logits[0], out.head_bias[0])
    if w.final_gain:
        normalize_backward(
            grad, w.final_gain[0], a.final_unit[0], a.final_deviation[0], out.final_gain[0], out.final_shift[0]
        )
    for layer in range(len(w.qkv) - 1, -1, -1):
        if w.mlp1:
            hidden, through = g.hidden[0], g.middle[0]
            if w.mlp2:
                linear_backward(w.mlp2[layer], a.hidden[layer], grad, hidden, out.mlp2[layer])
                sum_rows(grad, out.mlp2_bias[layer])
            else:
                copy(grad, hidden)
            relu_backward(a.hidden[layer], hidden)
            x = a.normed2[layer] if w.gain2 else a.middle[layer]
            linear_backward(w.mlp1[layer], x, hidden, through, out.mlp1[layer])
            sum_rows(hidden, out.mlp1_bias[layer])
            if w.gain2:
                normalize_backward(
                    through, w.gain2[layer], a.unit2[layer], a.deviation2[layer], out.gain2[layer], out.shift2[layer]
                )
            if residual:
                add(through, grad)
            else:
                copy(through, grad)
        y = g.y[0]
        if w.projection:
            linear_backward(w.projection[layer], a.y[layer], grad, y, out.projection[layer])
            sum_rows(grad, out.projection_bias[layer])
        else:
            copy(grad, y)
        scores, weights = g.weights[0], a.weights[layer]
        weighted_sum(weights, g.y_heads[0], True, g.value[0])
        dot_products(g.y_heads[0], a.value[layer], 1.0, 0.0, scores)
        softmax_backward(weights, scale, scores)
        weighted_sum(scores, a.key[layer], False, g.query[0])
        weighted_sum(scores, a.query[layer], True, g.key[0])
        x = a.embedded[0] if layer == 0 else outputs[layer - 1]
        if w.gain1:
            x = a.normed1[layer]
        through = g.embedded[0]
        linear_backward(w.qkv[layer], x, g.qkv[0], through, out.qkv[layer])
        if w.gain1:
            normalize_backward(
                through, w.gain1[layer], a.unit1[layer], a.deviation1[layer], out.gain1[layer], out.shift1[layer]
            )
        if residual:
            add(grad, through)
        if layer:
            copy(through, grad)
    embed_backward(idx, g.embedded[0], n_time, out.tokens[0], out.positions[0])
