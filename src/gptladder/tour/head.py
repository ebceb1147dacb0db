"""Chapter 6: one head of self-attention, whose weights depend on the input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.model.attention import CausalSelfAttention
from gptladder.tour.averages import uniform_weights
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED
from gptladder.tour.plots import plot_heatmaps

SHAPE = (4, BLOCK_SIZE, 32)
HEAD_SIZE = 16


@dataclass(frozen=True)
class HeadOutput:
    """The attention weights of one head, ``(B, T, T)``, and its output, ``(B, T, D)``."""

    weights: Tensor
    out: Tensor


def build_attention(
    n_embd: int, *, n_head: int, head_size: int, scale: bool, n_kv_head: int | None = None
) -> CausalSelfAttention:
    """Build self-attention as in the rungs, without output projection, dropout and gradients."""
    attention = CausalSelfAttention(
        n_embd,
        block_size=BLOCK_SIZE,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_size=head_size,
        scale=scale,
        dropout=0.0,
        projection=False,
        bias=False,
    )
    return attention.requires_grad_(False)


def run_head() -> HeadOutput:
    """Run one head on the ``(4, 8, 32)`` input of seed 1337, with unscaled scores, as the lecture first has it.

    The weights of the layers are drawn after the input, in the order key, query, value.
    """
    torch.manual_seed(SEED)
    x = torch.randn(SHAPE)
    attention = build_attention(x.size(2), n_head=1, head_size=HEAD_SIZE, scale=False)
    return HeadOutput(attention.weights(x)[:, 0], attention(x))


def show(console: TourConsole) -> None:
    """Print the attention weights of the first sequence."""
    head = run_head()
    console.paragraph(
        "Each position emits a query (what am I looking for?) and a key (what do I contain?). The dot product of query "
        "and key is the score; a softmax over the scores gives the weights of the values. Each row of weights sums to "
        "one and is zero on the future, but is no longer uniform."
    )
    console.code(run_head, CausalSelfAttention.forward)
    console.values(x=list(SHAPE), output=list(head.out.shape))
    console.matrix("attention weights of the first sequence: rows are queries, columns are keys", head.weights[0])
    last = head.weights[0, -1]
    console.paragraph(
        f"The last position attends most to position {int(last.argmax()) + 1} ({last.max():.4f}) and least to position "
        f"{int(last.argmin()) + 1} ({last.min():.4f}). Every sequence of the batch has its own weights."
    )
    panels = {"uniform mean": uniform_weights(BLOCK_SIZE), "self-attention": head.weights[0]}
    positions = [str(t + 1) for t in range(BLOCK_SIZE)]
    console.save_plot("weights", lambda: plot_heatmaps(panels, positions, xlabel="key", ylabel="query"))
