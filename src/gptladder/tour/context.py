"""Chapter 2: the training and validation splits, and the eight examples in one block of eight tokens."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, TRAIN_FRACTION, load_dataset
from gptladder.tour.plots import plot_examples


def iterate_examples(x: Tensor, y: Tensor) -> Iterator[tuple[list[int], int]]:
    """Yield every context in a block with its target, the token that follows.

    Args:
        x: a block, ``(T,)``.
        y: the same block one token later, ``(T,)``.
    """
    for time in range(len(x)):
        yield x[: time + 1].tolist(), int(y[time])


def show(console: TourConsole) -> None:
    """Print the sizes of the two splits, the first block, and its examples."""
    data = load_dataset()
    block = data.train[: BLOCK_SIZE + 1]
    examples = list(iterate_examples(block[:-1], block[1:]))
    console.paragraph(
        f"The first {TRAIN_FRACTION:.0%} of the text is the training split. The rest is the validation split: the "
        "model is never trained on it, so it shows whether the model generalizes. A block of "
        f"{BLOCK_SIZE} tokens holds {BLOCK_SIZE} training examples: each position predicts its next token from "
        f"everything before it, with a context of 1 to {BLOCK_SIZE} tokens."
    )
    console.code(iterate_examples)
    console.values(
        tokens=f"{len(data.tokens):,}",
        training_split=f"{len(data.train):,}",
        validation_split=f"{len(data.val):,}",
        first_block=f"{block.tolist()}  {data.show_tokens(block)}",
    )
    console.table(
        ["context", "target", "context as text", "target as text"],
        [(context, target, data.show_tokens(context), data.show_tokens([target])) for context, target in examples],
        n_left=4,
    )
    decode = data.tokenizer.decode
    rows = [(decode(context), decode([target])) for context, target in examples]
    console.save_plot("contexts", lambda: plot_examples(rows, "one block, eight examples: context and target"))
