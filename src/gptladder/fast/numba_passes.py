"""The forward and backward pass of the lecture's GPT, with its gradients as one derives them with pen and paper.

As in the lecture "Becoming a Backprop Ninja", and in llm.c. They call compiled loops, and PyTorch's softmax.

Dimensions in comments are those of ``gptladder.model.gpt``; ``L`` layers, ``N`` is ``B`` times ``T``, ``J`` the ``T``
distances, ``W`` the width of a block's output, ``F`` that of the feed-forward inside.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import nn

from gptladder.fast.numba_loops import (
    Array,
    Diagonals,
    add,
    copy,
    dot_products,
    embed,
    embed_backward,
    linear,
    linear_backward,
    matmul,
    normalize,
    normalize_backward,
    relu,
    relu_backward,
    softmax_backward,
    sum_rows,
    tokens_in_vocabulary,
    weighted_sum,
)
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


def forward_pass(idx: Array, w: Parameters, a: Activations, options: Options) -> bool:
    """Compute all activations; false, and nothing is computed, if a token is outside the vocabulary."""
    if not tokens_in_vocabulary(idx, len(w.tokens[0])):
        return False
    x = a.embedded[0]
    embed(idx, w.tokens[0], w.positions[0], a.weights[0].shape[1], x)
    for layer in range(len(w.qkv)):
        x = _attention_forward(x, layer, w, a, options)
        if w.mlp1:
            x = _mlp_forward(x, layer, w, a, options)
    if w.final_gain:
        gain, shift, out = w.final_gain[0], w.final_shift[0], a.final_norm[0]
        normalize(x, gain, shift, options.eps, a.final_xhat[0], a.final_rstd[0], out)
        x = out
    linear(w.head[0], w.head_bias[0], x, a.logits[0])
    return True


def _attention_forward(x: Array, layer: int, w: Parameters, a: Activations, options: Options) -> Array:
    normed, weights = x, a.weights[layer]
    out: Array = a.attention_out[layer]
    if w.gain1:
        normed = a.norm1[layer]
        normalize(x, w.gain1[layer], w.shift1[layer], options.eps, a.xhat1[layer], a.rstd1[layer], normed)
    matmul(w.qkv[layer], normed, a.qkv[layer])
    dot_products(a.query[layer], a.key[layer], options.scale, -math.inf, weights)
    _softmax(weights)
    weighted_sum(weights, a.value[layer], False, a.y_heads[layer])
    if w.projection:
        linear(w.projection[layer], w.projection_bias[layer], a.y[layer], out)
    else:
        copy(a.y[layer], out)
    if options.residual:
        add(x, out)
    return out


def _softmax(x: Diagonals) -> None:
    """Softmax over the distances of ``(H, J, N)``, in place, by PyTorch: Numba's ``exp`` takes four times as long."""
    tensor = torch.from_numpy(x)
    torch.softmax(tensor, dim=1, out=tensor)


def _mlp_forward(x: Array, layer: int, w: Parameters, a: Activations, options: Options) -> Array:
    normed, hidden = x, a.hidden[layer]
    out: Array = a.output[layer]
    if w.gain2:
        normed = a.norm2[layer]
        normalize(x, w.gain2[layer], w.shift2[layer], options.eps, a.xhat2[layer], a.rstd2[layer], normed)
    linear(w.mlp1[layer], w.mlp1_bias[layer], normed, hidden)
    relu(hidden)
    if w.mlp2:
        linear(w.mlp2[layer], w.mlp2_bias[layer], hidden, out)
    else:
        copy(hidden, out)
    if options.residual:
        add(x, out)
    return out


def backward_pass(idx: Array, w: Parameters, a: Activations, g: Activations, out: Parameters, options: Options) -> None:
    """Compute the gradients of all parameters.

    Args:
        g: the gradient of the logits, and memory for those of one layer's activations.
        out: where the gradients are written to.
    """
    outputs = a.output if w.mlp1 else a.attention_out
    grad = g.output[0]
    linear_backward(w.head[0], a.final_norm[0] if w.final_gain else outputs[-1], g.logits[0], grad, out.head[0])
    sum_rows(g.logits[0], out.head_bias[0])
    if w.final_gain:
        gain, xhat, rstd = w.final_gain[0], a.final_xhat[0], a.final_rstd[0]
        normalize_backward(grad, gain, xhat, rstd, out.final_gain[0], out.final_shift[0])
    for layer in reversed(range(len(w.qkv))):
        if w.mlp1:
            _mlp_backward(grad, layer, w, a, g, out, options)
        x = outputs[layer - 1] if layer else a.embedded[0]
        _attention_backward(grad, x, layer, w, a, g, out, options)
        if layer:
            copy(g.embedded[0], grad)
    embed_backward(idx, g.embedded[0], a.weights[0].shape[1], out.tokens[0], out.positions[0])


def _mlp_backward(
    grad: Array, layer: int, w: Parameters, a: Activations, g: Activations, out: Parameters, options: Options
) -> None:
    """Replace the gradient of the output by that of the input."""
    hidden, grad_input = g.hidden[0], g.attention_out[0]
    if w.mlp2:
        linear_backward(w.mlp2[layer], a.hidden[layer], grad, hidden, out.mlp2[layer])
        sum_rows(grad, out.mlp2_bias[layer])
    else:
        copy(grad, hidden)
    relu_backward(a.hidden[layer], hidden)
    x = a.norm2[layer] if w.gain2 else a.attention_out[layer]
    linear_backward(w.mlp1[layer], x, hidden, grad_input, out.mlp1[layer])
    sum_rows(hidden, out.mlp1_bias[layer])
    if w.gain2:
        gain, xhat, rstd = w.gain2[layer], a.xhat2[layer], a.rstd2[layer]
        normalize_backward(grad_input, gain, xhat, rstd, out.gain2[layer], out.shift2[layer])
    if options.residual:
        add(grad_input, grad)
    else:
        copy(grad_input, grad)


def _attention_backward(
    grad: Array, x: Array, layer: int, w: Parameters, a: Activations, g: Activations, out: Parameters, options: Options
) -> None:
    """Compute the gradient of the input, ``g.embedded``, from that of the output."""
    y, scores, weights, grad_input = g.y[0], g.weights[0], a.weights[layer], g.embedded[0]
    if w.projection:
        linear_backward(w.projection[layer], a.y[layer], grad, y, out.projection[layer])
        sum_rows(grad, out.projection_bias[layer])
    else:
        copy(grad, y)
    weighted_sum(weights, g.y_heads[0], True, g.value[0])
    dot_products(g.y_heads[0], a.value[layer], 1.0, 0.0, scores)
    softmax_backward(weights, options.scale, scores)
    weighted_sum(scores, a.key[layer], False, g.query[0])
    weighted_sum(scores, a.query[layer], True, g.key[0])
    linear_backward(w.qkv[layer], a.norm1[layer] if w.gain1 else x, g.qkv[0], grad_input, out.qkv[layer])
    if w.gain1:
        gain, xhat, rstd = w.gain1[layer], a.xhat1[layer], a.rstd1[layer]
        normalize_backward(grad_input, gain, xhat, rstd, out.gain1[layer], out.shift1[layer])
    if options.residual:
        add(grad, grad_input)
