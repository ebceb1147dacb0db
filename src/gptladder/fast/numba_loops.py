"""The loops of a GPT with short context, which Numba compiles at their first call.

Channels come first and the positions of all blocks lie next to each other, so that every loop runs along tokens, of
which there are hundreds. Loops that sum over tokens may reorder the sum; otherwise they cannot be vectorized.

Dimensions in comments are those of ``gptladder.model.gpt``; ``N`` is ``B`` times ``T``, ``J`` the ``T`` distances.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Channels = NDArray[Any]  # (H, D, N)
Diagonals = NDArray[Any]  # (H, J, N)


def njit(function: Callable[..., Any], fastmath: frozenset[str] = frozenset({"contract"})) -> Callable[..., Any]:
    """Compile with Numba, and cache the result for later processes if there is a writable place."""
    compile_function = partial(numba.njit, nogil=True, error_model="numpy", fastmath=set(fastmath))
    try:
        return compile_function(cache=True)(function)
    except RuntimeError:  # neither next to this file nor in the user's cache
        return compile_function()(function)


njit_reordered = partial(njit, fastmath=frozenset({"contract", "reassoc"}))


@njit
def dot_products(query: Channels, key: Channels, scale: float, fill: float, out: Diagonals) -> None:
    """The scaled dot product of each position with those up to it, ``fill`` where these are in another block."""
    n_head, n_channel, n = query.shape
    n_time = out.shape[1]
    for h in range(n_head):
        for j in range(n_time):
            diagonal = out[h, j, j:]
            diagonal[:] = 0
            for d in range(n_channel):
                a, b = query[h, d, j:], key[h, d, : n - j]
                for i in range(n - j):
                    diagonal[i] += a[i] * b[i]
            diagonal *= out.dtype.type(scale)
            for start in range(0, n, n_time):
                out[h, j, start : start + j] = fill


@njit
def weighted_sum(weights: Diagonals, x: Channels, transpose: bool, out: Channels) -> None:
    """For each position the weighted sum over those up to it, or if transposed over those that attend to it."""
    n_head, n_channel, n = x.shape
    for h in range(n_head):
        for d in range(n_channel):
            out[h, d] = 0
            for j in range(weights.shape[1]):
                w, late, early = weights[h, j, j:], slice(j, n), slice(0, n - j)
                a, b = out[h, d, early if transpose else late], x[h, d, late if transpose else early]
                for i in range(n - j):
                    a[i] += w[i] * b[i]


@njit
def tokens_in_vocabulary(idx: Array, vocab_size: int) -> bool:
    """Whether all token numbers are in the vocabulary."""
    inside = True
    for token in idx:
        inside &= 0 <= token < vocab_size
    return inside


@njit
def embed(idx: Array, tokens: Array, positions: Array, n_time: int, out: Array) -> None:
    """The embedding of each token and of its position, ``(C, N)``."""
    for c in range(len(out)):
        for start in range(0, len(idx), n_time):
            for t in range(n_time):
                out[c, start + t] = tokens[idx[start + t], c] + positions[t, c]


@njit
def embed_backward(idx: Array, grad: Array, n_time: int, out_tokens: Array, out_positions: Array) -> None:
    """The gradients of both tables."""
    fill_value(0, out_tokens)
    fill_value(0, out_positions)
    for c in range(len(grad)):
        for start in range(0, len(idx), n_time):
            for t in range(n_time):
                out_tokens[idx[start + t], c] += grad[c, start + t]
                out_positions[t, c] += grad[c, start + t]


@njit
def fill_value(value: float, out: Array) -> None:
    """Fill a matrix with one number."""
    for c in range(len(out)):
        for i in range(out.shape[1]):
            out[c, i] = value


@njit
def copy(x: Array, out: Array) -> None:
    """``out[:] = x``, which Numba takes seconds to compile."""
    for c in range(len(out)):
        for i in range(out.shape[1]):
            out[c, i] = x[c, i]


@njit
def add(x: Array, out: Array) -> None:
    """``out += x``."""
    for c in range(len(out)):
        for i in range(out.shape[1]):
            out[c, i] += x[c, i]


@njit
def add_matmul(weight: Array, x: Array, out: Array) -> None:
    """``out += weight @ x``, four rows by four, so that each number is read and written less often."""
    n_out, n_in = weight.shape
    n = x.shape[1]
    by_four_out, by_four_in = n_out - n_out % 4, n_in - n_in % 4
    for o in range(0, by_four_out, 4):
        for c in range(0, by_four_in, 4):
            w00, w01, w02, w03 = weight[o, c], weight[o, c + 1], weight[o, c + 2], weight[o, c + 3]
            w10, w11, w12, w13 = weight[o + 1, c], weight[o + 1, c + 1], weight[o + 1, c + 2], weight[o + 1, c + 3]
            w20, w21, w22, w23 = weight[o + 2, c], weight[o + 2, c + 1], weight[o + 2, c + 2], weight[o + 2, c + 3]
            w30, w31, w32, w33 = weight[o + 3, c], weight[o + 3, c + 1], weight[o + 3, c + 2], weight[o + 3, c + 3]
            for i in range(n):
                x0, x1, x2, x3 = x[c, i], x[c + 1, i], x[c + 2, i], x[c + 3, i]
                out[o, i] += (w00 * x0 + w01 * x1) + (w02 * x2 + w03 * x3)
                out[o + 1, i] += (w10 * x0 + w11 * x1) + (w12 * x2 + w13 * x3)
                out[o + 2, i] += (w20 * x0 + w21 * x1) + (w22 * x2 + w23 * x3)
                out[o + 3, i] += (w30 * x0 + w31 * x1) + (w32 * x2 + w33 * x3)
    for o in range(n_out):
        for c in range(by_four_in if o < by_four_out else 0, n_in):
            for i in range(n):
                out[o, i] += weight[o, c] * x[c, i]


@njit
def matmul(weight: Array, x: Array, out: Array) -> None:
    """``out = weight @ x``."""
    fill_value(0, out)
    add_matmul(weight, x, out)


@njit
def linear(weight: Array, bias: Array, x: Array, out: Array) -> None:
    """``out = weight @ x + bias[:, None]``."""
    for c in range(len(out)):
        for i in range(out.shape[1]):
            out[c, i] = bias[c]
    add_matmul(weight, x, out)


@njit
def linear_backward(weight: Array, x: Array, grad: Array, grad_x: Array, grad_weight: Array) -> None:
    """The gradients of the input and the weight of ``weight @ x``."""
    matmul(weight.T, grad, grad_x)
    matmul_transposed(grad, x, grad_weight)


@njit_reordered
def matmul_transposed(a: Array, b: Array, out: Array) -> None:
    """``out = a @ b.T``, four rows by four, whose sixteen sums stay in registers."""
    n_a, n_b, n = len(a), len(b), a.shape[1]
    by_four_a, by_four_b = n_a - n_a % 4, n_b - n_b % 4
    zero = out.dtype.type(0)
    for p in range(0, by_four_a, 4):
        for q in range(0, by_four_b, 4):
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
            for i in range(n):
                a0, a1, a2, a3 = a[p, i], a[p + 1, i], a[p + 2, i], a[p + 3, i]
                b0, b1, b2, b3 = b[q, i], b[q + 1, i], b[q + 2, i], b[q + 3, i]
                s00, s01, s02, s03 = s00 + a0 * b0, s01 + a0 * b1, s02 + a0 * b2, s03 + a0 * b3
                s10, s11, s12, s13 = s10 + a1 * b0, s11 + a1 * b1, s12 + a1 * b2, s13 + a1 * b3
                s20, s21, s22, s23 = s20 + a2 * b0, s21 + a2 * b1, s22 + a2 * b2, s23 + a2 * b3
                s30, s31, s32, s33 = s30 + a3 * b0, s31 + a3 * b1, s32 + a3 * b2, s33 + a3 * b3
            out[p, q], out[p, q + 1], out[p, q + 2], out[p, q + 3] = s00, s01, s02, s03
            out[p + 1, q], out[p + 1, q + 1], out[p + 1, q + 2], out[p + 1, q + 3] = s10, s11, s12, s13
            out[p + 2, q], out[p + 2, q + 1], out[p + 2, q + 2], out[p + 2, q + 3] = s20, s21, s22, s23
            out[p + 3, q], out[p + 3, q + 1], out[p + 3, q + 2], out[p + 3, q + 3] = s30, s31, s32, s33
    for p in range(n_a):
        for q in range(by_four_b if p < by_four_a else 0, n_b):
            total = zero
            for i in range(n):
                total += a[p, i] * b[q, i]
            out[p, q] = total


@njit_reordered
def sum_rows(x: Array, out: Array) -> None:
    """The sum of each row."""
    for c in range(len(x)):
        total = x.dtype.type(0)
        for i in range(x.shape[1]):
            total += x[c, i]
        out[c] = total


@njit
def relu(x: Array) -> None:
    """ReLU, in place."""
    for c in range(len(x)):
        for i in range(x.shape[1]):
            x[c, i] = x.dtype.type(0) if x[c, i] <= 0 else x[c, i]  # NaN stays, as in PyTorch


@njit
def relu_backward(y: Array, grad: Array) -> None:
    """Multiply the gradient by the derivative of ReLU, in place, which its output ``y`` tells."""
    for c in range(len(y)):
        for i in range(y.shape[1]):
            grad[c, i] = grad.dtype.type(0) if y[c, i] <= 0 else grad[c, i]


@njit
def softmax_backward(weights: Array, scale: float, grad: Array) -> None:
    """The gradient of what went into softmax, times ``scale``, in place."""
    n_head, n_time, n = weights.shape
    for h in range(n_head):
        for i in range(n):
            mean = grad.dtype.type(0)
            for j in range(n_time):
                mean += weights[h, j, i] * grad[h, j, i]
            for j in range(n_time):
                grad[h, j, i] = grad.dtype.type(scale) * weights[h, j, i] * (grad[h, j, i] - mean)


@njit
def normalize(x: Array, gain: Array, shift: Array, eps: float, xhat: Array, rstd: Array, out: Array) -> None:
    """LayerNorm of each column of ``(C, N)``."""
    n_channel, n = x.shape
    number = x.dtype.type
    mean, square = np.zeros(n, x.dtype), np.zeros(n, x.dtype)
    for c in range(n_channel):
        for i in range(n):
            mean[i] += x[c, i]
    for i in range(n):
        mean[i] /= number(n_channel)
    for c in range(n_channel):
        for i in range(n):
            xhat[c, i] = x[c, i] - mean[i]
            square[i] += xhat[c, i] * xhat[c, i]
    for i in range(n):
        rstd[i] = number(1) / np.sqrt(square[i] / number(n_channel) + number(eps))
    for c in range(n_channel):
        for i in range(n):
            xhat[c, i] *= rstd[i]
            out[c, i] = xhat[c, i] * gain[c] + shift[c]


@njit_reordered
def normalize_backward(grad: Array, gain: Array, xhat: Array, rstd: Array, out_gain: Array, out_shift: Array) -> None:
    """The gradients of the input, in place of that of the output, of the gain and of the shift."""
    n_channel, n = grad.shape
    number = grad.dtype.type
    mean, projection = np.zeros(n, grad.dtype), np.zeros(n, grad.dtype)
    for c in range(n_channel):
        total, shift = number(0), number(0)
        for i in range(n):
            total += grad[c, i] * xhat[c, i]
            shift += grad[c, i]
        out_gain[c], out_shift[c] = total, shift
        for i in range(n):
            grad[c, i] *= gain[c]
            mean[i] += grad[c, i]
            projection[i] += grad[c, i] * xhat[c, i]
    for i in range(n):
        mean[i] /= number(n_channel)
        projection[i] /= number(n_channel)
    for c in range(n_channel):
        for i in range(n):
            grad[c, i] = rstd[i] * (grad[c, i] - mean[i] - xhat[c, i] * projection[i])
