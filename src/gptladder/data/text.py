"""Text as it is on disk: every character kept, every mistake named, and never all of it in memory at once."""

from __future__ import annotations

import codecs
import glob
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import IO, Self

from gptladder.system.errors import UserError

BLOCK = 2**20  # bytes: what is done to a megabyte at once finds it in the processor's cache
MAX_PIECE_CHARS = 2**22  # characters: a text without a white space in so many is cut anywhere

EMBEDDED = "tinyshakespeare.txt"


@dataclass(frozen=True)
class TextFile:
    """UTF-8 bytes that can be gone through more than once, and how a mistake names them."""

    name: str
    open: Callable[[], IO[bytes]]

    def decoded(self, look: Callable[[bytes], object] = bool) -> Iterator[str]:
        """The characters, a block at a time, each shown as bytes before.

        Raises:
            UserError: the bytes are not UTF-8 (with the offset), or cannot be read.
        """
        try:
            yield from self._decoded(look)
        except OSError as error:
            raise UserError(f"{self.name} cannot be read ({error.strerror}): check the path and its rights") from None

    def _decoded(self, look: Callable[[bytes], object]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        position = 0  # of the block in the file
        with self.open() as file:
            while True:
                block = file.read(BLOCK)
                look(block)
                held = len(decoder.getstate()[0])  # bytes of a character that the last block ended in
                try:
                    yield decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self.name} is not UTF-8: byte {error.object[error.start]:#04x} at offset "
                        f"{position - held + error.start}; convert it first (for example with iconv)"
                    ) from None
                if not block:
                    return
                position += len(block)


@dataclass(frozen=True)
class Text:
    """One or several files, one right after another as ``cat`` would join them, or a part of that.

    Iterating gives it in pieces of about a megabyte, each ending before white space, where no tokenizer of ours has
    a token that goes on: the tokens of the pieces are those of the whole.

    Attributes:
        files: in their order.
        start, stop: the part, in characters.
        sha256: of the bytes of the whole, whatever the part.
    """

    files: tuple[TextFile, ...]
    start: int
    stop: int
    sha256: str

    @classmethod
    def of(cls, files: Iterable[TextFile]) -> Self:
        """The whole of some files, gone through once to check and to count it."""
        files, n_characters, digest = tuple(files), 0, hashlib.sha256()
        for file in files:
            n_characters += sum(map(len, file.decoded(digest.update)))
        return cls(files, 0, n_characters, digest.hexdigest())

    def __len__(self) -> int:
        """Characters."""
        return self.stop - self.start

    def split(self, share: float) -> tuple[Self, Self]:
        """The front for training and the tail for validation, the same characters for every tokenizer."""
        n_train = int(share * len(self))
        return replace(self, stop=self.start + n_train), replace(self, start=self.start + n_train)

    def __iter__(self) -> Iterator[str]:
        held = ""
        for piece in self.blocks():
            held += piece
            seam = _last_seam(held)
            if seam or len(held) > MAX_PIECE_CHARS:
                seam = seam or len(held)
                yield held[:seam]
                held = held[seam:]
        if held:
            yield held

    def blocks(self) -> Iterator[str]:
        """The same cut anywhere, for whom single characters are enough."""
        position = 0
        for file in self.files:
            for piece in file.decoded():
                if position >= self.stop:
                    return
                yield piece[max(0, self.start - position) : self.stop - position]
                position += len(piece)


def tiny_shakespeare_corpus() -> Text:
    """Tiny Shakespeare, 1,115,394 characters, from inside the package."""
    place = resources.files("gptladder.data.corpus") / EMBEDDED
    return Text.of([TextFile(EMBEDDED, lambda: place.open("rb"))])


def tiny_shakespeare() -> str:
    """Tiny Shakespeare as one string."""
    return "".join(tiny_shakespeare_corpus())


def open_corpus(path: str | Path, *, key: str = "data.path") -> Text:
    """A UTF-8 file, or all that a pattern such as ``plays/*.txt`` matches, sorted by path.

    No line end is translated, no byte-order mark dropped, nothing put between two files.

    Raises:
        UserError: a file, given as ``key``, is missing, unreadable, a directory, or not UTF-8 (with the byte
            offset); a pattern matches nothing; there is no character in all of it.
    """
    text = Text.of([_file(name, key) for name in _matches(str(path), key)])  # a name such as 2026 is a number to YAML
    if not len(text):
        raise UserError(f"{key}={path} is empty: give a text of at least one block")
    return text


def read_text(path: str | Path, *, key: str = "data.path") -> str:
    """The same as one string."""
    return "".join(open_corpus(path, key=key))


def sha256(text: str) -> str:
    """The fingerprint of a text: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _matches(path: str, key: str) -> list[str]:
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    matches = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207 - of any root
    if not matches:
        raise UserError(f"{key}={path} matches no file: check the pattern, and the directory that it is meant from")
    return matches


def _file(path: str, key: str) -> TextFile:
    name, place = f"{key}={path}", Path(path)
    try:
        with place.open("rb") as file:
            if place.is_file():
                return TextFile(name, lambda: place.open("rb"))
            return TextFile(name, partial(io.BytesIO, file.read()))  # a pipe can be read but once
    except IsADirectoryError:
        raise UserError(f"{name} is a directory: name one text file") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}): check the path and its rights") from None


def _last_seam(text: str) -> int:
    """Where the last white space after a visible character begins; 0 if there is none."""
    space = max(text.rfind(" "), text.rfind("\n"))
    seam = len(text[: space + 1].rstrip())
    return seam if seam and text[seam] in " \n\r\t" else 0  # what else Python strips, others take for visible
