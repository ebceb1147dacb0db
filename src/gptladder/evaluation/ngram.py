"""The n-gram baseline: how well counting alone predicts, without a network.

An n-gram model predicts a token from the ``n - 1`` before it. It is smoothed as by Witten and Bell (1991): a context
``h`` that was seen ``c(h)`` times, with ``t(h)`` different successors, gives the weight ``t(h) / (c(h) + t(h))`` to the
prediction of the context ``h'`` that is one token shorter,

    p(w | h) = (c(h, w) + t(h) * p(w | h')) / (c(h) + t(h)),

down to the empty context, which is smoothed with the uniform distribution over the vocabulary. A context that was
never seen gives all weight to the shorter one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gptladder.system.errors import UserError


@dataclass(frozen=True)
class NGramCounts:
    """The counts of every context of one length, and of what followed it, in the training split.

    An n-gram is one number, ``context * V + token``. Its index in the sorted ``ngrams`` is in turn the number of the
    context that is one token longer, so that no number overflows 64 bits for any vocabulary size. Every tensor
    has one more entry at the end for the index -1, "never seen": an unreachable n-gram, and counts of zero.
    """

    ngrams: Tensor  # (K + 1,) int64, sorted
    counts: Tensor  # (K + 1,) c(h, w)
    totals: Tensor  # per context: c(h)
    n_successors: Tensor  # per context: t(h)

    @classmethod
    def from_ngrams(cls, ngrams: Tensor, counts: Tensor, *, vocab_size: int, n_contexts: int) -> Self:
        contexts = ngrams // vocab_size
        return cls(
            torch.cat([ngrams, torch.tensor([torch.iinfo(torch.int64).max])]),
            torch.cat([counts, torch.tensor([0])]),
            torch.bincount(contexts, weights=counts.double(), minlength=n_contexts + 1),
            torch.bincount(contexts, minlength=n_contexts + 1),
        )

    def find(self, ngrams: Tensor) -> Tensor:
        """The indices of some n-grams; -1 for those that were never seen."""
        indices = torch.searchsorted(self.ngrams, ngrams)
        return indices.where(self.ngrams[indices] == ngrams, -1)

    def interpolate(self, contexts: Tensor, ngrams: Tensor, shorter: Tensor) -> Tensor:
        """The probabilities with this context, given those with the shorter one."""
        total, n_successors = self.totals[contexts], self.n_successors[contexts]
        # The total is zero for a context that is new, or that was only seen at the very end of the text.
        return ((self.counts[ngrams] + n_successors * shorter) / (total + n_successors)).where(total > 0, shorter)


class NGram:
    """An n-gram model: the counts of a text for all orders up to ``order``.

    Args:
        tokens: the training split, ``(N,)`` token numbers.
        order: ``n``, at least 1; the context is ``n - 1`` tokens long.
        vocab_size: ``V``.

    Raises:
        UserError: the order is below 1.
    """

    def __init__(self, tokens: Tensor, *, order: int, vocab_size: int) -> None:
        if order < 1:
            raise UserError(f"order={order} must be at least 1 (1 = unigram)")
        self.vocab_size = vocab_size
        self.orders: list[NGramCounts] = []
        contexts, n_contexts = torch.zeros(len(tokens), dtype=torch.long), 1  # the one empty context
        for context_length in range(order):
            ngrams = contexts * vocab_size + tokens[context_length:]
            ngrams, indices, counts = torch.unique(ngrams, return_inverse=True, return_counts=True)
            self.orders.append(NGramCounts.from_ngrams(ngrams, counts, vocab_size=vocab_size, n_contexts=n_contexts))
            contexts, n_contexts = indices[:-1], len(ngrams)

    def probabilities(self, tokens: Tensor, *, block_size: int | None = None) -> Tensor:
        """The probability of each token but the first, given those before it.

        Args:
            tokens: ``(N,)``.
            block_size: cut the text into consecutive windows, as for the exact loss of a rung: the first prediction of
                a window has one token of context, the last ``block_size``. By default every prediction has the full
                context of the order, except at the start of the text.

        Returns:
            ``(N - 1,)`` float64.
        """
        tokens = tokens.long()
        position = torch.arange(max(len(tokens) - 1, 0))
        n_available = 1 + (position if block_size is None else position % block_size)  # tokens of context
        p = torch.full(n_available.shape, 1 / self.vocab_size, dtype=torch.float64)
        contexts = torch.zeros_like(tokens)  # the number of the context that ends before each token
        for context_length, counts in enumerate(self.orders):
            ngrams = counts.find(contexts * self.vocab_size + tokens).where(contexts >= 0, -1)
            p = counts.interpolate(contexts[1:].where(n_available >= context_length, -1), ngrams[1:], p)
            contexts = ngrams.roll(1)
            contexts[:1] = -1
        return p

    def loss(self, tokens: Tensor, *, block_size: int | None = None) -> float:
        """The exact loss, as a rung is evaluated: the mean over every token but the first, in nats.

        Raises:
            UserError: there is nothing to predict.
        """
        if len(tokens) < 2:
            raise UserError(f"the text has {len(tokens)} tokens; at least 2 are needed, one of them to predict")
        return float(-self.probabilities(tokens, block_size=block_size).log().mean())
