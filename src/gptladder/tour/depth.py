"""Chapter 8: parallel heads make attention wide; residual connections and LayerNorm make a network deep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptladder.model.block import Block
from gptladder.model.gpt import GPT
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED
from gptladder.tour.head import build_attention
from gptladder.tour.plots import plot_heatmaps, plot_lines

N_EMBD, N_HEAD, N_LAYER = 32, 4, 6
HEAD_SIZE = N_EMBD // N_HEAD
FEATURES_SHAPE = (32, 100)


def compare_heads() -> tuple[Tensor, Tensor, Tensor]:
    """Run four heads in parallel and one by one.

    Returns:
        the output of the parallel heads, the concatenated outputs of the single heads, ``(B, T, C)`` each, and the
        attention weights of the first sequence, ``(H, T, T)``.
    """
    torch.manual_seed(SEED)
    x = torch.randn(4, BLOCK_SIZE, N_EMBD)
    parallel = build_attention(N_EMBD, n_head=N_HEAD, head_size=HEAD_SIZE, scale=True)
    qkv = parallel.qkv.weight.view(3, N_HEAD, HEAD_SIZE, N_EMBD)
    outputs = []
    for head in range(N_HEAD):
        single = build_attention(N_EMBD, n_head=1, head_size=HEAD_SIZE, scale=True)
        single.qkv.weight.copy_(qkv[:, head].flatten(0, 1))
        outputs.append(single(x))
    return parallel(x), torch.cat(outputs, dim=-1), parallel.weights(x)[0]


def probe_depth(*, residual: bool) -> tuple[list[float], list[float]]:
    """Measure how much of the input and of the gradient passes through untrained blocks.

    Returns:
        after each block, the cosine similarity of the activations to the input; before each block, the norm of the
        gradient relative to the gradient at the top. Both have ``N_LAYER + 1`` values, from the bottom to the top.
    """
    torch.manual_seed(SEED)
    blocks = GPT(
        vocab_size=1,  # not used here
        block_size=BLOCK_SIZE,
        n_embd=N_EMBD,
        n_layer=N_LAYER,
        n_head=N_HEAD,
        head_size=HEAD_SIZE,
        residual=residual,
        norm_position="none",
    ).blocks
    activations = [torch.randn(32, BLOCK_SIZE, N_EMBD, requires_grad=True)]
    for block in blocks:
        activations.append(block(activations[-1]))
    top_gradient = torch.randn_like(activations[-1])
    gradients = torch.autograd.grad(activations[-1], activations[:-1], top_gradient)
    cosines = [torch.cosine_similarity(activations[0], x, dim=-1).mean().item() for x in activations]
    return cosines, [*((gradient.norm() / top_gradient.norm()).item() for gradient in gradients), 1.0]


def example_features() -> Tensor:
    """The ``(32, 100)`` input of seed 1337: 32 examples of 100 features."""
    torch.manual_seed(SEED)
    return torch.randn(FEATURES_SHAPE)


def normalize(x: Tensor, *, dim: int, correction: int) -> Tensor:
    """Normalize to mean 0 and variance 1 along one dimension.

    Args:
        dim: 1, the features of each example, is LayerNorm; 0, the examples of each feature, is BatchNorm.
        correction: 1 divides by n - 1, as the notebook does; 0 divides by n, as torch's layers do.
    """
    mean, variance = x.mean(dim, keepdim=True), x.var(dim, keepdim=True, correction=correction)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def describe(values: Tensor) -> tuple[str, str, str]:
    """Format the mean, the standard deviation and the first five of some values."""
    first = " ".join(f"{value:7.4f}" for value in values[:5].tolist())
    return f"{values.mean():z.4f}", f"{values.std():z.4f}", first


def show(console: TourConsole) -> None:
    """Print the three comparisons."""
    show_heads(console)
    show_residual(console)
    show_norms(console)


def show_heads(console: TourConsole) -> None:
    """Print that parallel heads equal single heads."""
    parallel, one_by_one, weights = compare_heads()
    console.paragraph(
        f"{N_HEAD} heads of size {HEAD_SIZE} attend to {N_HEAD} different things. They need no loop: the heads are one "
        "more batch dimension, (B, H, T, D). Computed in parallel or one by one, the outputs are the same."
    )
    console.code(compare_heads)
    console.values(
        output=list(parallel.shape),
        largest_difference=f"{(parallel - one_by_one).abs().max():.1e}",
        equal=torch.allclose(parallel, one_by_one, atol=1e-6),
    )
    panels = {f"head {head + 1}": weights[head] for head in range(N_HEAD)}
    positions = [str(t + 1) for t in range(BLOCK_SIZE)]
    console.save_plot("heads", lambda: plot_heatmaps(panels, positions, xlabel="key", ylabel="query"))


def show_residual(console: TourConsole) -> None:
    """Print how input and gradient pass through untrained blocks with and without residual connections."""
    names = {"no residual": False, "residual": True}
    probes = {name: probe_depth(residual=residual) for name, residual in names.items()}
    console.paragraph(
        f"{N_LAYER} untrained blocks. Without residual connections, the top no longer resembles the input, and hardly "
        "any gradient reaches the bottom. With them, both pass through. This is why the rung blocks gets worse, and "
        "why the rung residual gets better."
    )
    console.code(Block.forward)
    headings = [f"{quantity}, {name}" for quantity in ("cosine to input", "gradient norm") for name in names]
    rows = [
        (
            layer,
            *(
                f"{probes[name][quantity][layer]:{style}}"
                for quantity, style in enumerate(("z.4f", ".1e"))
                for name in names
            ),
        )
        for layer in range(N_LAYER + 1)
    ]
    console.table(["blocks below", *headings], rows)
    lines = {name: probes[name][1] for name in names}
    title = "how much gradient reaches each block"
    ylabel = "norm relative to the top"
    console.save_plot("residual", lambda: plot_lines(title, lines, xlabel="blocks below", ylabel=ylabel, log=True))


def show_norms(console: TourConsole) -> None:
    """Print LayerNorm and BatchNorm by hand next to torch's."""
    x = example_features()
    console.paragraph(
        "LayerNorm normalizes each example over its features to mean 0 and standard deviation 1; BatchNorm normalizes "
        "each feature over the examples of the batch. It is the same line of code along another dimension. Torch "
        "divides the variance by n and the notebook by n - 1, which explains the differences below."
    )
    console.code(normalize)
    modules = (("LayerNorm", nn.LayerNorm(FEATURES_SHAPE[1])), ("BatchNorm", nn.BatchNorm1d(FEATURES_SHAPE[1])))
    for (name, module), dim in zip(modules, (1, 0), strict=True):
        by_hand, by_hand_n = (normalize(x, dim=dim, correction=correction) for correction in (1, 0))
        by_torch: Tensor = module(x).detach()
        rows = [
            (stage, *describe(y.select(1 - dim, 0)))
            for stage, y in (
                (f"one {'example' if dim else 'feature'}", x),
                ("by hand, n - 1", by_hand),
                ("torch", by_torch),
            )
        ]
        console.table([name, "mean", "std", "first five values"], rows)
        console.values(
            by_hand_with_n=f"largest difference from torch {(by_hand_n - by_torch).abs().max():.1e}",
            by_hand_with_n_minus_1=f"largest difference from torch {(by_hand - by_torch).abs().max():.1e}",
        )
