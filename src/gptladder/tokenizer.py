"""Text to token numbers and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.errors import UserError

# More distinct characters than any script in use; a table of logits for so many still fits into memory.
MOST_CHARACTERS = 20_000


class CharTokenizer:
    """Every distinct character of the text is a token; the vocabulary is those characters, sorted.

    ``encode`` is one look-up in a table indexed by code point; there is no Python per character.
    """

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        code_points = _code_points(vocabulary)
        # The smallest signed or byte type that holds every token, with -1 or the size itself for "unknown".
        self.dtype = np.dtype(np.uint8 if len(vocabulary) < 256 else np.int16 if len(vocabulary) < 2**15 else np.int32)
        self._unknown = len(vocabulary)
        self._table = np.full(int(code_points.max(initial=0)) + 2, self._unknown, dtype=self.dtype)
        self._table[code_points] = np.arange(len(vocabulary))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Take the vocabulary from a text: 65 characters for Tiny Shakespeare.

        Raises:
            UserError: it has too many distinct characters for a vocabulary.
        """
        characters = set(text)
        if len(characters) > MOST_CHARACTERS:
            raise UserError(
                f"data.path: the text has {len(characters):,} distinct characters, and tokenizer=char takes at most "
                f"{MOST_CHARACTERS:,}: is it really text?"
            )
        return cls("".join(sorted(characters)))

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Token numbers of a text, ``(len(text),)``, in the smallest integer type that fits.

        Raises:
            UserError: a character is outside the vocabulary (it is named, with its position).
        """
        code_points = _code_points(text)
        # Code points past the table all meet its last entry, which no character of the vocabulary owns.
        tokens = self._table[np.minimum(code_points, len(self._table) - 1)]
        unknown = tokens == self._unknown
        if unknown.any():
            position = int(unknown.argmax())
            raise UserError(
                f"character {text[position]!r} at position {position} is not in the vocabulary of "
                f"{self.vocab_size} characters: use only characters of the training text"
            )
        return torch.from_numpy(tokens)

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of some token numbers."""
        numbers = tokens.tolist() if isinstance(tokens, Tensor) else tokens
        return "".join(self.vocabulary[number] for number in numbers)

    def state_dict(self) -> dict[str, Any]:
        """Plain values that rebuild this tokenizer; saved in every checkpoint."""
        return {"kind": "char", "vocabulary": self.vocabulary}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(state["vocabulary"])


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
