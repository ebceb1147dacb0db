"""Stretches: the steps between two looks at a run, which Lightning takes for one batch.

Lightning's loop costs half a millisecond each time round, more than a whole step of a bigram. Where nothing observes
a step, the loop need not go round for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Self

import torch
from torch import Tensor

from gptladder.data.batches import Batch, RandomBatches, TrainBatches

# Parameters times tokens of all the steps of a stretch: about a tenth of a second on one core, which is how long a
# signal or the progress bar may have to wait.
WORK_PER_STRETCH = 300_000_000


def steps_per_stretch(intervals: Iterable[int], *, work_per_step: int) -> int:
    """The most steps that may go by unobserved: a divisor of every interval at which something looks.

    Args:
        intervals: in steps, between evaluations, checkpoints and the like.
        work_per_step: parameters times tokens.
    """
    common = math.gcd(*intervals)
    affordable = max(1, WORK_PER_STRETCH // work_per_step)
    return max(n for n in range(1, min(common, affordable) + 1) if common % n == 0)


class Stretch:
    """The batches of some consecutive steps.

    Iterating gives for each step the list of its batches, of which there are several if gradients accumulate.
    """

    def __init__(self, blocks: TrainBatches, batches: Iterator[Batch], *, n_steps: int, batches_per_step: int) -> None:
        self.blocks = blocks
        self.batches = batches
        self.n_steps = n_steps
        self.batches_per_step = batches_per_step
        self.device = torch.device("cpu")
        self.offsets: list[Tensor] = []

    def to(self, device: torch.device) -> Self:
        """Where Lightning wants the batches; each goes there when its turn comes."""
        self.device = device
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        for _ in range(self.n_steps):
            self.offsets = []
            yield [self._draw() for _ in range(self.batches_per_step)]

    @property
    def whereabouts(self) -> str:
        """Where the blocks of the latest step begin, for whoever must find out what was wrong with them."""
        starts = [offset for offsets in self.offsets for offset in offsets.tolist()]
        return f"its blocks begin at {', '.join(map(str, starts))} of the training split"

    def _draw(self) -> Batch:
        x, y = next(self.batches)
        self.offsets.append(self.blocks.offsets)
        return x.to(self.device), y.to(self.device)


class Stretches:
    """A whole training from the step at which it stands, stretch by stretch.

    Args:
        blocks: where its batches come from.
        first_step, max_steps: where it stands and ends.
        n_steps: of one stretch.
        batches_per_step: of one step.
        ahead: random batches of a stretch may be drawn at once.
    """

    def __init__(
        self,
        blocks: TrainBatches,
        *,
        first_step: int,
        max_steps: int,
        n_steps: int,
        batches_per_step: int,
        ahead: bool = False,
    ) -> None:
        self.blocks = blocks
        self.first_step = first_step
        self.max_steps = max_steps
        self.n_steps = n_steps
        self.batches_per_step = batches_per_step
        self.ahead = ahead

    def __len__(self) -> int:
        # Of the whole training, also of one that is resumed: so Lightning counts.
        return -(-self.max_steps // self.n_steps)

    def __iter__(self) -> Iterator[Stretch]:
        batches = iter(self.blocks)
        for step in range(self.first_step, self.max_steps, self.n_steps):
            n_steps = min(self.n_steps, self.max_steps - step)
            if self.ahead and isinstance(self.blocks, RandomBatches):
                batches = self.blocks.draw(n_steps * self.batches_per_step)
            yield Stretch(self.blocks, batches, n_steps=n_steps, batches_per_step=self.batches_per_step)
