"""How far counting gets without a network: what followed each short context, and how often.

An n-gram predicts a token from the ``n - 1`` before it. Witten and Bell (1991) say how far to trust what was counted:
a context ``h`` seen ``c(h)`` times with ``t(h)`` different successors leaves the share ``t(h) / (c(h) + t(h))`` to
the context that is one token shorter,

    p(w | h) = (c(h, w) + t(h) * p(w | h')) / (c(h) + t(h)),

down to no context at all, which leaves its own share to the uniform distribution over the vocabulary. A context that
was never seen leaves everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gptladder.system.errors import UserError


@dataclass(frozen=True)
class Successors:
    """What followed every context of one length in the training split.

    A context and its successor are one number, ``context * V + token``. Its place among the sorted ``keys`` is in turn
    the number of the context that is one token longer, so that no number outgrows 64 bits, whatever the vocabulary.
    Every tensor ends in one entry more, which is where -1, "never seen", leads: a key out of reach, and zeros.
    """

    keys: Tensor  # (K + 1,) int64, sorted
    counts: Tensor  # (K + 1,) how often: c(h, w)
    totals: Tensor  # one a context: c(h)
    kinds: Tensor  # one a context: t(h)

    @classmethod
    def of(cls, keys: Tensor, counts: Tensor, *, vocab_size: int, n_contexts: int) -> Self:
        contexts = keys // vocab_size
        return cls(
            torch.cat([keys, torch.tensor([torch.iinfo(torch.int64).max])]),
            torch.cat([counts, torch.tensor([0])]),
            torch.bincount(contexts, weights=counts.double(), minlength=n_contexts + 1),
            torch.bincount(contexts, minlength=n_contexts + 1),
        )

    def find(self, keys: Tensor) -> Tensor:
        """The places of some keys; -1 for what was never seen."""
        places = torch.searchsorted(self.keys, keys)
        return places.where(self.keys[places] == keys, -1)

    def interpolated(self, contexts: Tensor, grams: Tensor, shorter: Tensor) -> Tensor:
        """Probabilities with this context, given those with the shorter one."""
        total, kinds = self.totals[contexts], self.kinds[contexts]
        # Without a total there is nothing to go by: the context is new, or stood only at the very end.
        return ((self.counts[grams] + kinds * shorter) / (total + kinds)).where(total > 0, shorter)


class NGram:
    """The counts of a text, of all orders up to one.

    Args:
        tokens: the training split, ``(N,)`` token numbers.
        order: ``n``, at least 1; an order sees ``n - 1`` tokens.
        vocab_size: ``V``.

    Raises:
        UserError: there is no such order.
    """

    def __init__(self, tokens: Tensor, *, order: int, vocab_size: int) -> None:
        if order < 1:
            raise UserError(f"order={order} must be at least 1, which looks at no token before")
        self.vocab_size = vocab_size
        self.levels: list[Successors] = []
        contexts, n_contexts = torch.zeros(len(tokens), dtype=torch.long), 1  # of no token: there is one
        for shorter in range(order):
            keys = contexts * vocab_size + tokens[shorter:]
            keys, grams, counts = torch.unique(keys, return_inverse=True, return_counts=True)
            self.levels.append(Successors.of(keys, counts, vocab_size=vocab_size, n_contexts=n_contexts))
            contexts, n_contexts = grams[:-1], len(keys)

    def probabilities(self, tokens: Tensor, *, block_size: int | None = None) -> Tensor:
        """How likely each token but the first was, given those before it.

        Args:
            tokens: ``(N,)``.
            block_size: cut the text into consecutive blocks as the rungs see it: the first prediction of a block has
                one token before it, the last ``block_size``. Without it a prediction sees all that its order can use,
                and only the start of the text sees less.

        Returns:
            ``(N - 1,)`` float64.
        """
        tokens = tokens.long()
        place = torch.arange(max(len(tokens) - 1, 0))
        n_seen = 1 + (place if block_size is None else place % block_size)  # tokens that a prediction may use
        p = torch.full(n_seen.shape, 1 / self.vocab_size, dtype=torch.float64)
        contexts = torch.zeros_like(tokens)  # the number of the context that ends before each token
        for length, level in enumerate(self.levels):
            grams = level.find(contexts * self.vocab_size + tokens).where(contexts >= 0, -1)
            p = level.interpolated(contexts[1:].where(n_seen >= length, -1), grams[1:], p)
            contexts = grams.roll(1)
            contexts[:1] = -1
        return p

    def loss(self, tokens: Tensor, *, block_size: int | None = None) -> float:
        """The exact loss: mean nats of every token but the first, as a rung is measured.

        Raises:
            UserError: there is nothing to predict.
        """
        if len(tokens) < 2:
            raise UserError(f"a text of {len(tokens)} tokens has none to predict: give at least two")
        return float(-self.probabilities(tokens, block_size=block_size).log().mean())
