"""Chapter 7: large scores make a softmax pick one position, so scores are kept small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.tour.board import Board
from gptladder.tour.head import HEAD_SIZE, SHAPE, head
from gptladder.tour.material import BLOCK_SIZE, SEED
from gptladder.tour.pictures import columns

MANY = (32, BLOCK_SIZE, HEAD_SIZE)
SCORES = torch.tensor([0.1, -0.2, 0.3, -0.2, 0.5])
FACTORS = (1, 8, 32)


@dataclass(frozen=True)
class Spread:
    """Variances of keys, queries and their scores, before and after the division, and how sharp each softmax is."""

    key: float
    query: float
    scores: float
    scaled: float
    sharpness: float
    scaled_sharpness: float


def spread(shape: tuple[int, int, int]) -> Spread:
    """Measured on unit normal keys and queries of ``(B, T, D)``, drawn in this order from the global stream.

    The sharpness of scores is the mean over all rows of the largest weight that a softmax gives.
    """
    k, q = torch.randn(shape), torch.randn(shape)
    scores = q @ k.transpose(-2, -1)  # (B, T, D) -> (B, T, T)
    scaled = scores * shape[-1] ** -0.5
    variances = (part.var().item() for part in (k, q, scores, scaled))
    return Spread(*variances, *(part.softmax(dim=-1).amax(dim=-1).mean().item() for part in (scores, scaled)))


def sharpened(factor: float) -> Tensor:
    """The softmax of the lecture's five scores, multiplied."""
    return (factor * SCORES).softmax(dim=-1)


def show(board: Board) -> None:
    """Print the variances for two sizes of batch, and the softmax of growing scores as bars."""
    head()  # the notebook draws its keys and queries right after that head
    notebook = spread((*SHAPE[:2], HEAD_SIZE))
    torch.manual_seed(SEED)
    many = spread(MANY)
    board.say(
        f"A score is a sum of head_size = {HEAD_SIZE} products, so its variance is about {HEAD_SIZE} where keys and "
        f"queries have variance 1. Divided by the square root of {HEAD_SIZE} it is about 1 again. Look at the largest "
        f"weight: undivided scores all but choose a single position, before anything is learnt."
    )
    measures = {"the notebook's (4, 8, 16)": notebook, f"{MANY}": many}
    rows = [
        ("variance of keys", [at.key for at in measures.values()]),
        ("variance of queries", [at.query for at in measures.values()]),
        ("variance of scores", [at.scores for at in measures.values()]),
        ("variance of scores / sqrt(head_size)", [at.scaled for at in measures.values()]),
        ("mean largest weight, undivided", [at.sharpness for at in measures.values()]),
        ("mean largest weight, divided", [at.scaled_sharpness for at in measures.values()]),
    ]
    board.table(["", *measures], [(name, *(f"{value:.4f}" for value in values)) for name, values in rows])
    board.say(
        "The same five scores, multiplied: look how the softmax turns from a spread into one position alone, which "
        "lets hardly any gradient through."
    )
    panels = {f"scores x {factor}": sharpened(factor).tolist() for factor in FACTORS}
    board.bars([f"{score:+.1f}" for score in SCORES.tolist()], panels)
    board.picture("softmax", lambda: columns([f"{score:+.1f}" for score in SCORES.tolist()], panels))
