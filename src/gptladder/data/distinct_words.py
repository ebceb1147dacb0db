"""Byte-pair encoding of long texts: each distinct word is encoded once, and looked up from then on.

The library encodes a few MB per second and core. A dictionary finds a word that was seen before ten times as fast, and
a text of many millions of words has far fewer distinct ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gptladder.data.tokenizer import smallest_int_dtype

# The space before a word. GPT-2's pattern always begins a new piece before a space that a visible character follows.
# Python and the library agree on which characters are visible.
SPACE = re.compile(r" (?=\S)")

# New words are encoded so many in one text, which is twice as fast as one by one; each core takes some of the texts.
N_JOINED = 200

# When more words or characters are remembered, all are forgotten: some 100 MB.
MAX_WORDS, MAX_CHARS = 2**19, 2**24

Ints = np.ndarray[Any, np.dtype[Any]]


class _Numbers(dict[str, int]):
    """Numbers words, without the space before them, in the order in which they first appear.

    Attributes:
        new: the words that were numbered and not remembered yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


class _GrowingArray:
    """An array to whose end values are added; its memory doubles when it is full, so that few of them are copied."""

    def __init__(self, dtype: np.dtype[Any] | type) -> None:
        self._memory: Ints = np.empty(1, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, values: Ints) -> None:
        start, self._length = self._length, self._length + len(values)
        if self._length > len(self._memory):
            larger: Ints = np.empty(2 * self._length, self._memory.dtype)
            larger[:start] = self._memory[:start]
            self._memory = larger
        self._memory[start : self._length] = values

    def __getitem__(self, indices: Ints) -> Ints:
        return self._memory[indices]


class DistinctWords:
    """Encodes texts word by word, and remembers the tokens of each word.

    Args:
        encode_batch: encodes several texts, each by itself.
        token_bytes: the bytes of each token.
    """

    def __init__(self, encode_batch: Callable[[Sequence[str]], list[list[int]]], token_bytes: Sequence[bytes]) -> None:
        self._encode_batch = encode_batch
        self._n_bytes = np.array(list(map(len, token_bytes)), np.int64)
        self._dtype = smallest_int_dtype(len(token_bytes))
        self._forget()

    def encode(self, text: str) -> Ints:
        """The tokens of a text, ``(N,)``."""
        if len(self._numbers) > MAX_WORDS or self._n_chars > MAX_CHARS:
            self._forget()
        first, *words = SPACE.split(text)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        if self._numbers.new:
            self._remember(self._numbers.new)
            self._numbers.new = []
        lengths = self._lengths[numbers]
        ends = lengths.cumsum()
        # Token i of the text is token i - (where its word begins in the text) + (where it begins in the memory).
        shifts = self._starts[numbers] - (ends - lengths)
        n_tokens = ends[-1] if len(ends) else 0
        return np.concatenate([self._encode([first]), self._tokens[np.repeat(shifts, lengths) + np.arange(n_tokens)]])

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._n_chars = 0
        self._tokens = _GrowingArray(self._dtype)
        self._starts = _GrowingArray(np.int64)
        self._lengths = _GrowingArray(np.int64)

    def _remember(self, words: list[str]) -> None:
        """Encode new words, many in one text; the arrays then have an entry for every number."""
        texts = [f" {word}" for word in words]
        tokens = self._encode(["".join(texts[i : i + N_JOINED]) for i in range(0, len(texts), N_JOINED)])
        # A word ends where as many bytes have been encoded as it and those before it have.
        token_ends = self._n_bytes[tokens].cumsum()
        word_ends = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts)).cumsum()
        stops = np.searchsorted(token_ends, word_ends, side="right")
        starts = np.concatenate([[0], stops[:-1]])
        self._starts.add(len(self._tokens) + starts)
        self._lengths.add(stops - starts)
        self._tokens.add(tokens)
        self._n_chars += sum(map(len, words))

    def _encode(self, texts: list[str]) -> Ints:
        return np.concatenate([np.array(tokens, self._dtype) for tokens in self._encode_batch(texts)])
