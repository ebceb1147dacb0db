"""Chapter 10: what Llama changes - rotated pairs, RMSNorm, a gated feed-forward, and heads that share keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.block import SwiGLU
from gptladder.model.rotary import RotaryEmbedding
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED
from gptladder.tour.head import build_attention
from gptladder.tour.plots import plot_arrows, plot_heatmaps, plot_lines

HEAD_SIZE = 4  # two pairs of channels
THETA = 100.0  # of this chapter: the slow pair then turns visibly within one block
WIDTH, HIDDEN = 5, 6
EPS = 1e-5
N_HEAD, N_KV_HEAD = 4, 2


def rotate_pairs() -> Tensor:
    """Rotate the vector (1, 1, 0, 0) at every position; its pairs (1, 0) turn at two speeds.

    Returns:
        ``(T, 2, 2)``: position, pair, coordinate.
    """
    rope = RotaryEmbedding(block_size=BLOCK_SIZE, head_size=HEAD_SIZE, theta=THETA)
    x = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(BLOCK_SIZE, HEAD_SIZE)
    rotated: Tensor = rope(x)  # channel i is paired with channel i + D/2
    return rotated.view(BLOCK_SIZE, 2, HEAD_SIZE // 2).transpose(1, 2)


def score_by_position() -> Tensor:
    """Scores of one query at every position with one key at every position, after rotation, ``(T, T)``."""
    torch.manual_seed(SEED)
    query, key = torch.randn(2, HEAD_SIZE)
    rope = RotaryEmbedding(block_size=BLOCK_SIZE, head_size=HEAD_SIZE, theta=THETA)
    q, k = (rope(x.expand(BLOCK_SIZE, HEAD_SIZE)) for x in (query, key))
    scores: Tensor = q @ k.T
    return scores


def example_features() -> Tensor:
    """Five features with a mean far from zero."""
    torch.manual_seed(SEED)
    return torch.randn(WIDTH) + 4


def layer_norm(x: Tensor) -> Tensor:
    """Subtract the mean, then divide by the standard deviation."""
    centered = x - x.mean()
    return centered / torch.sqrt(centered.square().mean() + EPS)


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root of the mean square."""
    return x / torch.sqrt(x.square().mean() + EPS)


def gate_by_hand(layer: SwiGLU, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gate, what it lets through, and their product: the output of the layer."""
    z = layer.gate.weight @ x
    gate, up = z * torch.sigmoid(z), layer.up.weight @ x
    return gate, up, gate * up


def find_shared_heads() -> Tensor:
    """Find which head of keys each query head uses, by changing one after the other.

    Returns:
        ``(H, K)``: one where the attention weights of a query head change, else zero.
    """
    torch.manual_seed(SEED)
    attention = build_attention(N_HEAD * HEAD_SIZE, n_head=N_HEAD, n_kv_head=N_KV_HEAD, head_size=HEAD_SIZE, scale=True)
    x = torch.randn(1, BLOCK_SIZE, N_HEAD * HEAD_SIZE)
    before = attention.weights(x)[0]
    columns = []
    for head in range(N_KV_HEAD):
        rows = slice((N_HEAD + head) * HEAD_SIZE, (N_HEAD + head + 1) * HEAD_SIZE)  # the keys come after the queries
        attention.qkv.weight[rows] *= -1
        columns.append((attention.weights(x)[0] != before).flatten(1).any(dim=1).float())
        attention.qkv.weight[rows] *= -1
    return torch.stack(columns, dim=1)


def show(console: TourConsole) -> None:
    """Print the four parts, one after the other."""
    show_rotation(console)
    show_norms(console)
    show_gate(console)
    show_shared_heads(console)


def show_rotation(console: TourConsole) -> None:
    """Print that rotated scores depend on the distance only."""
    console.paragraph(
        "The lecture adds a vector to the embedding of each position. Rotary embeddings add nothing: they turn each "
        "pair of channels of queries and keys, further at later positions, some pairs fast and some slowly. A score "
        "is a product of a query and a key, so only the difference of their angles counts: each diagonal below, which "
        "is one distance, holds one value."
    )
    console.code(RotaryEmbedding.forward, score_by_position)
    scores = score_by_position()
    console.matrix("scores of one query (rows) and one key (columns) at every position", scores)
    spread = max(float(diagonal.max() - diagonal.min()) for diagonal in map(scores.diagonal, range(1 - BLOCK_SIZE, 1)))
    console.values(largest_difference_within_a_diagonal=f"{spread:.1e}")
    pairs = rotate_pairs()
    panels = {
        f"pair {pair + 1}, {speed}, positions 0 to {BLOCK_SIZE - 1}": pairs[:, pair]
        for pair, speed in enumerate(("fast", "slow"))
    }
    console.save_plot("rotation", lambda: plot_arrows(panels))


def show_norms(console: TourConsole) -> None:
    """Print RMSNorm next to LayerNorm, by hand and by torch."""
    x = example_features()
    console.paragraph(
        "RMSNorm leaves out one step of LayerNorm: it subtracts no mean. The output keeps a mean, its mean square is "
        "one, and no bias is learned."
    )
    console.code(layer_norm, rms_norm)
    by_torch = {"LayerNorm": nn.LayerNorm(WIDTH, eps=EPS), "RMSNorm": nn.RMSNorm(WIDTH, eps=EPS)}
    by_hand = {"LayerNorm": layer_norm(x), "RMSNorm": rms_norm(x)}
    rows = [("input", x), *by_hand.items()]
    console.table(
        ["", "mean", "mean square", "values"],
        [
            (name, f"{y.mean():z.4f}", f"{y.square().mean():.4f}", " ".join(f"{value:7.4f}" for value in y.tolist()))
            for name, y in rows
        ],
    )
    differences = {name: f"{(by_hand[name] - norm(x)).abs().max():.1e}" for name, norm in by_torch.items()}
    console.values(largest_difference_from_torch=", ".join(f"{name} {value}" for name, value in differences.items()))


def show_gate(console: TourConsole) -> None:
    """Print how SwiGLU's gate scales each hidden channel."""
    console.paragraph(
        "An ordinary feed-forward applies an activation to each hidden channel by itself. SwiGLU has two linears: the "
        "SiLU of one, the gate, scales the output of the other. A gate near zero closes its channel; a large one "
        "passes it on. The hidden width is two thirds of 4C, so that three matrices have as many weights as two."
    )
    console.code(SwiGLU.forward)
    torch.manual_seed(SEED)
    layer = SwiGLU(WIDTH, HIDDEN, bias=False).requires_grad_(False)
    x = 3 * torch.randn(WIDTH)
    gate, up, out = gate_by_hand(layer, x)
    rows = [
        (channel + 1, *(f"{values[channel]:z.4f}" for values in (gate, up, out, layer(x)))) for channel in range(HIDDEN)
    ]
    console.table(["hidden channel", "gate", "linear", "gate * linear", "SwiGLU"], rows)
    z = torch.linspace(-6, 6, 121)
    curves = {"SiLU, the gate": F.silu(z).tolist(), "ReLU": z.relu().tolist()}
    console.save_plot(
        "gate",
        lambda: plot_lines("the gate, and a ReLU", curves, xlabel="input", ylabel="output", x=z.tolist()),
    )


def show_shared_heads(console: TourConsole) -> None:
    """Print which query heads share a head of keys and values, and what that saves."""
    shared = find_shared_heads()
    console.paragraph(
        f"With grouped-query attention, {N_HEAD} heads of queries share {N_KV_HEAD} heads of keys and values. The "
        "cache of a long text holds keys and values only, so it is half as large. The table shows the query heads "
        "whose attention weights change with each head of keys."
    )
    console.code(find_shared_heads)
    console.table(
        ["", *(f"keys {head + 1}" for head in range(N_KV_HEAD))],
        [
            (f"query head {head + 1}", *("changes" if x else "" for x in row))
            for head, row in enumerate(shared.tolist())
        ],
    )
    queries, keys = (
        [f"{name} {head + 1}" for head in range(n)] for name, n in (("query", N_HEAD), ("keys", N_KV_HEAD))
    )
    panels = {"heads that share keys": shared}
    console.save_plot(
        "shared-heads", lambda: plot_heatmaps(panels, keys, queries, xlabel="head of keys", ylabel="query head")
    )
