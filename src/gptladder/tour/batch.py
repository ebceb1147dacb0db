"""Chapter 3: blocks from random places, stacked so that they are computed at once."""

from __future__ import annotations

import torch

from gptladder.data.batches import Batch
from gptladder.tour.block import pairs
from gptladder.tour.board import Board
from gptladder.tour.material import BATCH_SIZE, BLOCK_SIZE, SEED, material
from gptladder.tour.pictures import lessons


def first_batch() -> Batch:
    """The batch that seed 1337 draws first, ``x`` and ``y`` of ``(4, 8)``."""
    torch.manual_seed(SEED)
    return material().batch()


def show(board: Board) -> None:
    """Print the batch and its 32 pairs."""
    x, y = first_batch()
    shelf = material()
    lesson = [pair for block, following in zip(x, y, strict=True) for pair in pairs(block, following)]
    board.say(
        f"{BATCH_SIZE} blocks from random places make a batch, and know nothing of each other. y is x moved on by one "
        f"token. Look how {BATCH_SIZE} blocks of {BLOCK_SIZE} are {len(lesson)} lessons in a single pass."
    )
    for name, part in (("x", x), ("y", y)):
        board.facts(**{name: list(part.shape)})
        board.table(["tokens", "as text"], [(row.tolist(), shelf.seen(row)) for row in part], left=2)
    board.table(["context", "target"], lesson, left=2)
    rows = [
        (shelf.tokenizer.decode(block), shelf.tokenizer.decode(next_[-1:])) for block, next_ in zip(x, y, strict=True)
    ]
    board.picture("batch", lambda: lessons(rows, "a batch: four blocks, and the last target of each"))
