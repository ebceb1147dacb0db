"""Chapter 3: blocks from random offsets, stacked into a batch that is computed in parallel."""

from __future__ import annotations

import torch

from gptladder.data.windows import Batch, sample_offsets, slice_windows
from gptladder.tour.console import TourConsole
from gptladder.tour.context import iterate_examples
from gptladder.tour.dataset import BATCH_SIZE, BLOCK_SIZE, SEED, load_dataset
from gptladder.tour.plots import plot_examples


def sample_first_batch() -> Batch:
    """Sample the first batch of seed 1337, ``x`` and ``y`` of ``(4, 8)``."""
    torch.manual_seed(SEED)
    return load_dataset().sample_batch()


def show(console: TourConsole) -> None:
    """Print the batch and its 32 examples."""
    x, y = sample_first_batch()
    data = load_dataset()
    examples = [example for blocks in zip(x, y, strict=True) for example in iterate_examples(*blocks)]
    console.paragraph(
        f"A batch stacks {BATCH_SIZE} blocks from random offsets; they are independent of each other. y is x shifted "
        f"by one token. {BATCH_SIZE} blocks of {BLOCK_SIZE} tokens give {len(examples)} examples in one forward pass."
    )
    console.code(sample_offsets, slice_windows)
    for name, blocks in (("x", x), ("y", y)):
        console.values(**{name: list(blocks.shape)})
        console.table(["tokens", "as text"], [(row.tolist(), data.show_tokens(row)) for row in blocks], n_left=2)
    console.table(["context", "target"], examples, n_left=2)
    decode = data.tokenizer.decode
    rows = [(decode(context), decode(targets[-1:])) for context, targets in zip(x, y, strict=True)]
    console.save_plot("batch", lambda: plot_examples(rows, "a batch: four blocks, and the last target of each"))
