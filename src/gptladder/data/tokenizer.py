"""Text to token numbers and back: what a tokenizer is, and the lecture's, one token a character."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Text
from gptladder.system.errors import UserError

# More distinct characters than any script in use; a table of logits for so many still fits into memory.
MAX_VOCAB_SIZE = 20_000


class Tokenizer(Protocol):
    """Cuts text into numbered tokens, each of which spells some bytes.

    What builds one, ``tokenizer._target_`` in a config, is called with the training and the validation split.
    """

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: ``V``."""
        ...

    def encode(self, text: str) -> Tensor:
        """Token numbers of a text, ``(N,)``, in the smallest integer type that fits all of them.

        Raises:
            UserError: the text cannot be said in these tokens.
        """
        ...

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 of one token, which may begin or end within a character."""
        ...

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of some token numbers."""
        return "".join(decode_stream(self, tokens.tolist() if isinstance(tokens, Tensor) else tokens))

    def state_dict(self) -> dict[str, Any]:
        """Plain values that rebuild this tokenizer, its ``kind`` among them; saved in every checkpoint."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild it."""
        ...


def smallest(n_tokens: int) -> np.dtype[Any]:
    """The smallest integer type that torch indexes and that holds so many numbers."""
    return np.dtype(np.uint8 if n_tokens <= 2**8 else np.int16 if n_tokens <= 2**15 else np.int32)


def check_unicode(text: str) -> str:
    """A text that has UTF-8, for tokenizers of bytes.

    Raises:
        UserError: half of a surrogate pair has none; a command line that is not UTF-8 is read as such.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"character {text[error.start]!r} at position {error.start} is not Unicode: give the text as UTF-8"
        ) from None
    return text


def decode_stream(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of some tokens as they come, each character whole and held back until it is.

    Bytes that no character begins with become U+FFFD; a character that the last token leaves unfinished is dropped.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return (decoder.decode(tokenizer.token_bytes(token)) for token in tokens)


def labels(tokenizer: Tokenizer, tokens: Iterable[int]) -> list[str]:
    """Each token by itself, as pictures show it; U+FFFD where it is part of a character only."""
    return [tokenizer.token_bytes(token).decode(errors="replace") for token in tokens]


class CharTokenizer(Tokenizer):
    """Every distinct character of the text is a token; the vocabulary is those characters, sorted.

    ``encode`` is one look-up in a table; there is no Python per character.
    """

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        code_points = _code_points(vocabulary)
        self._unknown = len(vocabulary)
        self.dtype = smallest(len(vocabulary) + 1)
        self._table = np.full(max(128, int(code_points.max(initial=0)) + 2), self._unknown, dtype=self.dtype)
        self._table[code_points] = np.arange(len(vocabulary))
        # Tokens of a byte, where text and tokens alike are bytes: five times as fast as NumPy's look-up.
        self._of_bytes = self._table[:128].tobytes().ljust(256) if self.dtype == np.uint8 else None

    @classmethod
    def from_text(cls, *texts: str | Text) -> Self:
        """Take the vocabulary from all of a text, in one part or several: 65 characters for Tiny Shakespeare.

        Raises:
            UserError: it has too many distinct characters for a vocabulary.
        """
        seen = np.zeros(sys.maxunicode + 1, dtype=bool)
        for text in texts:
            for piece in [text] if isinstance(text, str) else text.blocks():
                _look(piece, seen)
        characters = np.flatnonzero(seen).tolist()
        if len(characters) > MAX_VOCAB_SIZE:
            raise UserError(
                f"data.path: the text has {len(characters):,} distinct characters, and tokenizer=char takes at most "
                f"{MAX_VOCAB_SIZE:,}: is it really text?"
            )
        return cls("".join(map(chr, characters)))

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Token numbers of a text, ``(len(text),)``.

        Raises:
            UserError: a character is outside the vocabulary (it is named, with its position).
        """
        if self._of_bytes is not None and text.isascii():
            content = bytearray(text, "ascii").translate(self._of_bytes)
            position, tokens = content.find(self._unknown), np.frombuffer(content, dtype=np.uint8)
        else:
            # Code points past the table all meet its last entry, which no character of the vocabulary owns.
            tokens = self._table.take(_code_points(text), mode="clip")
            unknown = tokens == self._unknown
            position = int(unknown.argmax()) if unknown.any() else -1
        if position >= 0:
            raise UserError(
                f"character {text[position]!r} at position {position} is not in the vocabulary of "
                f"{self.vocab_size} characters: use only characters of the training text"
            )
        return torch.from_numpy(tokens)

    def token_bytes(self, token: int) -> bytes:
        """One character."""
        return self.vocabulary[token].encode("utf-8", "surrogatepass")

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "char", "vocabulary": self.vocabulary}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(state["vocabulary"])


def _look(text: str, seen: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Mark the characters of a text, an entry of ``seen`` a code point."""
    if text.isascii():  # what is left when all that was seen is deleted: twice as fast as NumPy
        text = text.encode().translate(None, delete=np.flatnonzero(seen[:128]).astype(np.uint8).tobytes()).decode()
    points = _code_points(text)
    # To read the marks is cheaper than to set each anew.
    seen[points[~seen.take(points, mode="clip")]] = True


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
