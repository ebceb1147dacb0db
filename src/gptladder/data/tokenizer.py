"""Text to token ids and back: the tokenizer protocol, and the lecture's tokenizer with one token per character."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Corpus
from gptladder.system.errors import UserError

# More distinct characters than any script in use; a bigram's V x V table of this size still fits into memory.
MAX_VOCAB_SIZE = 20_000


class Tokenizer(Protocol):
    """Splits text into tokens; each token id stands for a fixed sequence of bytes.

    A config's ``tokenizer._target_`` builds one: it is called with the training and the validation split.
    """

    @property
    def vocab_size(self) -> int:
        """The number of tokens, ``V``."""
        ...

    def encode(self, text: str) -> Tensor:
        """Encode a text as token ids, ``(N,)``, in the smallest integer type that holds ``V`` of them.

        Raises:
            UserError: the vocabulary does not cover the text.
        """
        ...

    def token_bytes(self, token: int) -> bytes:
        """Get the UTF-8 bytes of one token, which may begin or end within a character."""
        ...

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """Decode token ids to text."""
        return "".join(decode_stream(self, tokens.tolist() if isinstance(tokens, Tensor) else tokens))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that rebuild this tokenizer, including its ``kind``; every checkpoint saves them."""
        ...

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild a tokenizer from its ``state_dict``."""
        ...


def smallest_int_dtype(n_values: int) -> np.dtype[Any]:
    """Choose the smallest integer type that holds the values below ``n_values`` and that torch accepts."""
    return np.dtype(np.uint8 if n_values <= 2**8 else np.int16 if n_values <= 2**15 else np.int32)


def check_unicode(text: str) -> str:
    """Check that a text can be encoded as UTF-8, and return it.

    Raises:
        UserError: it contains half of a surrogate pair, which is how Python reads a command line that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"character {text[error.start]!r} at position {error.start} is not Unicode: give the text as UTF-8"
        ) from None
    return text


def decode_stream(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Decode tokens as they arrive; a character is yielded once all of its bytes are there.

    Invalid bytes become U+FFFD. An incomplete character at the end is dropped.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return (decoder.decode(tokenizer.token_bytes(token)) for token in tokens)


def token_labels(tokenizer: Tokenizer, tokens: Iterable[int]) -> list[str]:
    """Decode each token by itself, for the axes of plots; U+FFFD stands for a part of a character."""
    return [tokenizer.token_bytes(token).decode(errors="replace") for token in tokens]


class CharTokenizer(Tokenizer):
    """One token per distinct character of the text; the vocabulary is those characters, sorted.

    ``encode`` is one table lookup for the whole text, without a Python loop over characters.
    """

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        code_points = _code_points(vocabulary)
        self._unknown = len(vocabulary)
        self.dtype = smallest_int_dtype(len(vocabulary) + 1)
        self._table = np.full(max(128, int(code_points.max(initial=0)) + 2), self._unknown, dtype=self.dtype)
        self._table[code_points] = np.arange(len(vocabulary))
        # For ASCII text and tokens of one byte, bytes.translate is five times as fast as NumPy's lookup.
        self._byte_table = self._table[:128].tobytes().ljust(256) if self.dtype == np.uint8 else None

    @classmethod
    def from_text(cls, *texts: str | Corpus) -> Self:
        """Build the vocabulary from all given texts or splits: 65 characters for Tiny Shakespeare.

        Raises:
            UserError: they have more than ``MAX_VOCAB_SIZE`` distinct characters.
        """
        seen = np.zeros(sys.maxunicode + 1, dtype=bool)
        for text in texts:
            for chunk in [text] if isinstance(text, str) else text.chunks():
                _mark_seen(chunk, seen)
        characters = np.flatnonzero(seen).tolist()
        if len(characters) > MAX_VOCAB_SIZE:
            raise UserError(
                f"data.path: the text has {len(characters):,} distinct characters, and tokenizer=char takes at most "
                f"{MAX_VOCAB_SIZE:,}: check that the file is text, or use tokenizer=bpe"
            )
        return cls("".join(map(chr, characters)))

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> Tensor:
        """Encode a text as token ids, ``(len(text),)``.

        Raises:
            UserError: a character is not in the vocabulary (the message names it and its position).
        """
        if self._byte_table is not None and text.isascii():
            content = bytearray(text, "ascii").translate(self._byte_table)
            position, tokens = content.find(self._unknown), np.frombuffer(content, dtype=np.uint8)
        else:
            # mode="clip": code points past the table get its last entry, which is always the unknown token.
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
        """Get the UTF-8 bytes of one character."""
        return self.vocabulary[token].encode("utf-8", "surrogatepass")

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "char", "vocabulary": self.vocabulary}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(state["vocabulary"])


def _mark_seen(text: str, seen: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    """Set ``seen`` at the code points of a text."""
    if text.isascii():  # delete the characters seen before and look at the rest: twice as fast as NumPy
        text = text.encode().translate(None, delete=np.flatnonzero(seen[:128]).astype(np.uint8).tobytes()).decode()
    points = _code_points(text)
    # Reading the flags and setting the few new ones is cheaper than setting all of them.
    seen[points[~seen.take(points, mode="clip")]] = True


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
