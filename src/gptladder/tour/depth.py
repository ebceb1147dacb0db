"""Chapter 8: what lets attention be wide and a net be deep."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptladder.model.attention import Attention
from gptladder.model.gpt import GPT
from gptladder.tour.board import Board
from gptladder.tour.material import BLOCK_SIZE, SEED
from gptladder.tour.pictures import curves, maps

N_EMBD, N_HEAD, N_LAYER = 32, 4, 6
HEAD_SIZE = N_EMBD // N_HEAD
BATCH = (BLOCK_SIZE, N_EMBD)
NORMED = (32, 100)


def attention(n_head: int) -> Attention:
    """Heads of size 8 as the rungs have them, without gradients."""
    part = Attention(N_EMBD, block_size=BLOCK_SIZE, n_head=n_head, head_size=HEAD_SIZE, scale=True, dropout=0.0)
    return part.requires_grad_(False)


def heads() -> tuple[Tensor, Tensor, Tensor]:
    """What four heads gather side by side, what they gather one after another, and their weights ``(H, T, T)``."""
    torch.manual_seed(SEED)
    x = torch.randn(4, *BATCH)
    together = attention(N_HEAD)
    packed = together.query_key_value.view(3, N_HEAD, HEAD_SIZE, N_EMBD)
    gathered = []
    for number in range(N_HEAD):
        alone = attention(1)
        alone.query_key_value.copy_(packed[:, number].flatten(0, 1))  # its query, key and value
        gathered.append(alone(x))
    return together(x), torch.cat(gathered, dim=-1), together.weights(x)[0]


def through_layers(*, residual: bool) -> tuple[list[float], list[float]]:
    """What fresh layers leave of their input, and of a gradient on its way back.

    Returns:
        after each layer, the cosine of the stream to the input; before each layer, the size of the gradient that
        arrives there in shares of the one sent from the top. Each has ``N_LAYER + 1`` values, both from the bottom up.
    """
    torch.manual_seed(SEED)
    layers = GPT(
        vocab_size=1,  # of which nothing here makes use
        block_size=BLOCK_SIZE,
        n_embd=N_EMBD,
        positions=True,
        n_layer=N_LAYER,
        attention="softmax",
        n_head=N_HEAD,
        head_size=HEAD_SIZE,
        scale=True,
        expansion=4,
        projection=True,
        residual=residual,
        norm_position="none",
        dropout=0.0,
    ).layers
    stream = [torch.randn(32, *BATCH, requires_grad=True)]
    for layer in layers:
        stream.append(layer(stream[-1]))
    sent = torch.randn_like(stream[-1])
    arrived = torch.autograd.grad(stream[-1], stream[:-1], sent)
    cosines = [torch.cosine_similarity(stream[0], at, dim=-1).mean().item() for at in stream]
    return cosines, [*((gradient.norm() / sent.norm()).item() for gradient in arrived), 1.0]


def normed_input() -> Tensor:
    """The ``(32, 100)`` input of seed 1337: 32 examples of 100 features."""
    torch.manual_seed(SEED)
    return torch.randn(NORMED)


def normalised(x: Tensor, *, dim: int, correction: int) -> Tensor:
    """Mean 0 and variance 1 along one dimension.

    Args:
        dim: 1, the features of each example, is LayerNorm; 0, the examples of each feature, is BatchNorm.
        correction: 1 divides by one less than the number of values, as the notebook does, 0 by their number, as
            torch's layers do.
    """
    mean, variance = x.mean(dim, keepdim=True), x.var(dim, keepdim=True, correction=correction)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def described(values: Tensor) -> tuple[str, str, str]:
    """Mean, deviation and the first five of some values."""
    first = " ".join(f"{value:7.4f}" for value in values[:5].tolist())
    return f"{values.mean():z.4f}", f"{values.std():z.4f}", first


def show(board: Board) -> None:
    """Print the three comparisons."""
    show_heads(board)
    show_residual(board)
    show_norms(board)


def show_heads(board: Board) -> None:
    """Heads at once and one after another."""
    at_once, one_by_one, weights = heads()
    board.say(
        f"{N_HEAD} heads of {HEAD_SIZE} look for {N_HEAD} things at a time. They need no loop: a head is one more "
        "batch dimension, (B, H, T, D). Look: computed at once or one after another, they gather the same."
    )
    board.facts(
        gathered=list(at_once.shape),
        largest_difference=f"{(at_once - one_by_one).abs().max():.1e}",
        equal=torch.allclose(at_once, one_by_one, atol=1e-6),
    )
    panels = {f"head {number + 1}": weights[number] for number in range(N_HEAD)}
    board.picture("heads", lambda: maps(panels, [str(t + 1) for t in range(BLOCK_SIZE)]))


def show_residual(board: Board) -> None:
    """Fresh layers with and without residual paths."""
    names = {"replaced": False, "added": True}
    found = {name: through_layers(residual=residual) for name, residual in names.items()}
    board.say(
        f"{N_LAYER} fresh layers. Where each replaces its input, little is left of it at the top, and hardly any "
        "gradient comes back to the bottom; where each adds to it, both pass through. It is what holds back the rung "
        "blocks, and what residual mends."
    )
    headings = [f"{what}, {name}" for what in ("input left", "gradient arriving") for name in names]
    rows = [
        (
            layer,
            *(f"{found[name][what][layer]:{style}}" for what, style in enumerate(("z.4f", ".1e")) for name in names),
        )
        for layer in range(N_LAYER + 1)
    ]
    board.table(["layers below", *headings], rows)
    lines = {f"a layer's output is {name}": found[name][1] for name in names}
    title = "gradient that arrives, as a share of what is sent from the top"
    board.picture("residual", lambda: curves(title, lines, x="layers below", log=True))


def show_norms(board: Board) -> None:
    """LayerNorm by hand beside torch's, and BatchNorm along the other dimension."""
    x = normed_input()
    board.say(
        "LayerNorm gives each example mean 0 and deviation 1 over its own features, BatchNorm each feature over the "
        "examples of the batch: the same line of code along another dimension. Look at the differences: by hand with "
        "torch's divisor n they are torch's; the notebook divides by n - 1, which is all that sets it apart."
    )
    modules = (("LayerNorm", nn.LayerNorm(NORMED[1])), ("BatchNorm", nn.BatchNorm1d(NORMED[1])))
    for (name, module), dim in zip(modules, (1, 0), strict=True):
        hand, exact = (normalised(x, dim=dim, correction=correction) for correction in (1, 0))
        torchs: Tensor = module(x).detach()
        rows = [
            (stage, *described(y.select(1 - dim, 0)))
            for stage, y in (
                (f"one {'example' if dim else 'feature'}", x),
                ("by hand, n - 1", hand),
                ("torch's", torchs),
            )
        ]
        board.table([name, "mean", "std", "first five values"], rows)
        board.facts(
            by_hand_with_divisor_n=f"largest difference to torch's {(exact - torchs).abs().max():.1e}",
            by_hand_with_divisor_n_less_1=f"largest difference to torch's {(hand - torchs).abs().max():.1e}",
        )
