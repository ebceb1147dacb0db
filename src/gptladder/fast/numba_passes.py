"""The forward and backward pass of the lecture's GPT, with its gradients as one derives them with pen and paper.

As in the lecture "Becoming a Backprop Ninja", and in llm.c. They call compiled loops, and PyTorch's softmax.

Dimensions in comments are those of ``numba_arrays``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gptladder.fast.numba_arrays import Activations, Options, Parameters
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


class Pass:
    """The forward and backward pass for batches of one shape, in memory of its own."""

    @torch.inference_mode(mode=False)  # an evaluation may need it first
    def __init__(self, net: Any, shape: torch.Size) -> None:
        n, n_time = shape.numel(), shape[1]
        self.activations = Activations.allocate(net, n, n_time, len(net.blocks))
        self.grads = Activations.allocate(net, n, n_time, 1)
        self.arrays, self.grad_arrays = _arrays(self.activations), _arrays(self.grads)
        block = net.blocks[0]
        norms = [module.eps for module in net.modules() if isinstance(module, nn.LayerNorm)]
        self.options = Options(block.attention.scale, norms[0] if norms else 0.0, block.residual)

    def forward(self, idx: Tensor, weights: Parameters, out: Tensor) -> None:
        """Write the logits of ``(B, T)`` token numbers to ``out``, ``(B, T, V)``."""
        if not forward_pass(idx.flatten().numpy(), weights, self.arrays, self.options):
            raise IndexError("a token number is negative, or not below the size of the vocabulary")
        out.copy_(self.activations.logits[0].t().view_as(out))

    def backward(self, idx: Tensor, grad: Tensor, weights: Parameters, out: Parameters) -> None:
        """Write the gradients of all parameters to ``out``, from that of the logits, ``(N, V)``."""
        self.grads.logits[0].copy_(grad.t())
        backward_pass(idx.flatten().numpy(), weights, self.arrays, self.grad_arrays, out, self.options)


def _arrays(tensors: Activations) -> Activations:
    """Lists with the array of each layer."""
    return Activations(*(list(tensor.numpy()) for tensor in tensors))


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
