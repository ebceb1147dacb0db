"""Chapter 2: what is held back to be tested on, and how a block of eight teaches eight times."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gptladder.tour.board import Board
from gptladder.tour.material import BLOCK_SIZE, SPLIT, material
from gptladder.tour.pictures import lessons


def pairs(x: Tensor, y: Tensor) -> Iterator[tuple[list[int], int]]:
    """Every context of a block with the token that follows it.

    Args:
        x: a block, ``(T,)``.
        y: the same, one token further on, ``(T,)``.
    """
    for time in range(len(x)):
        yield x[: time + 1].tolist(), int(y[time])


def show(board: Board) -> None:
    """Print the sizes of the two splits, the first block, and its pairs."""
    shelf = material()
    block = shelf.train[: BLOCK_SIZE + 1]
    lesson = list(pairs(block[:-1], block[1:]))
    board.say(
        f"The first {SPLIT:.0%} of the text is for training; the rest is never trained on and shows whether anything "
        f"was understood. A block of {BLOCK_SIZE} tokens holds {BLOCK_SIZE} lessons: look how each position has "
        "everything before it as its context, from one token up to all of them."
    )
    board.facts(
        tokens=f"{len(shelf.tokens):,}",
        training_split=f"{len(shelf.train):,}",
        validation_split=f"{len(shelf.val):,}",
        first_block=f"{block.tolist()}  {shelf.seen(block)}",
    )
    board.table(
        ["context", "target", "context as text", "target as text"],
        [(context, target, shelf.seen(context), shelf.seen([target])) for context, target in lesson],
        left=4,
    )
    decode = shelf.tokenizer.decode
    rows = [(decode(context), decode([target])) for context, target in lesson]
    board.picture("contexts", lambda: lessons(rows, "one block, eight lessons: context and target"))
