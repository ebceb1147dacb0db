"""Text files and corpora: UTF-8 read in chunks, with every character kept and never all of it in memory at once."""

from __future__ import annotations

import codecs
import glob
import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import IO, Self

from gptladder.system.errors import UserError

READ_SIZE = 2**20  # bytes per read: a megabyte stays in the processor's cache while it is decoded, hashed and encoded
PIECE_CHARS = 2**16  # tokenizers take some hundred bytes per character while they encode
MAX_PIECE_CHARS = 2**22  # characters: a text with no white space in that many is split anywhere

MAX_PIPE_BYTES = 2**31

# A file or a pattern, or several of them.
TextPath = str | Path | Sequence[str | Path]

TINY_SHAKESPEARE = "tinyshakespeare.txt"


@dataclass(frozen=True)
class TextFile:
    """A UTF-8 file that can be opened more than once, and the name that error messages give it."""

    name: str
    open: Callable[[], IO[bytes]]

    def decode(self, on_bytes: Callable[[bytes], object] | None = None) -> Iterator[str]:
        """Read the characters, one chunk at a time.

        Args:
            on_bytes: called with the bytes of each chunk, before they are decoded.

        Raises:
            UserError: the file cannot be read, or is not UTF-8 (with the byte offset).
        """
        try:
            yield from self._decode(on_bytes or (lambda _: None))
        except OSError as error:
            raise _unreadable(self.name, error) from None

    def _decode(self, on_bytes: Callable[[bytes], object]) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        position = 0  # of the chunk in the file
        with self.open() as file:
            while True:
                content = file.read(READ_SIZE)
                on_bytes(content)
                n_pending = len(decoder.getstate()[0])  # bytes of a character that began in the last chunk
                try:
                    yield decoder.decode(content, final=not content)
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self.name} is not UTF-8: byte {error.object[error.start]:#04x} at offset "
                        f"{position - n_pending + error.start}; convert it first (for example with iconv)"
                    ) from None
                if not content:
                    return
                position += len(content)


@dataclass(frozen=True)
class Corpus:
    """One or several text files joined as ``cat`` would join them, or a part of them.

    Iterating yields pieces of about ``PIECE_CHARS`` characters. Each piece ends before white space, where no token of
    our tokenizers continues, so that the tokens of the pieces are the tokens of the whole corpus.

    Attributes:
        files: in their order.
        start, stop: the part, in characters.
        sha256: of all bytes of all files, also for a part.
    """

    files: tuple[TextFile, ...]
    start: int
    stop: int
    sha256: str

    @classmethod
    def from_files(cls, files: Iterable[TextFile]) -> Self:
        """Read some files once, to check and hash them and to count their characters."""
        files, n_characters, digest = tuple(files), 0, hashlib.sha256()
        for file in files:
            n_characters += sum(map(len, file.decode(digest.update)))
        return cls(files, 0, n_characters, digest.hexdigest())

    def __len__(self) -> int:
        """Count the characters."""
        return self.stop - self.start

    def split(self, train_fraction: float) -> tuple[Self, Self]:
        """Split into a front for training and a tail for validation: the same characters for every tokenizer."""
        n_train = int(train_fraction * len(self))
        return replace(self, stop=self.start + n_train), replace(self, start=self.start + n_train)

    def __iter__(self) -> Iterator[str]:
        carry = ""  # what follows the last split point
        slices = (chunk[i : i + PIECE_CHARS] for chunk in self.chunks() for i in range(0, len(chunk), PIECE_CHARS))
        for part in slices:
            carry += part
            end = _last_split_point(carry)
            if end or len(carry) > MAX_PIECE_CHARS:
                end = end or len(carry)
                yield carry[:end]
                carry = carry[end:]
        if carry:
            yield carry

    def chunks(self) -> Iterator[str]:
        """Iterate over chunks that may end anywhere, for use where single characters are enough."""
        position = 0
        for file in self.files:
            for chunk in file.decode():
                if position >= self.stop:
                    return
                yield chunk[max(0, self.start - position) : self.stop - position]
                position += len(chunk)


def tiny_shakespeare_corpus() -> Corpus:
    """Open Tiny Shakespeare, 1,115,394 characters, which the package contains."""
    path = resources.files("gptladder.data.corpus") / TINY_SHAKESPEARE
    return Corpus.from_files([TextFile(TINY_SHAKESPEARE, lambda: path.open("rb"))])


def tiny_shakespeare() -> str:
    """Read Tiny Shakespeare as one string."""
    return "".join(tiny_shakespeare_corpus())


def open_corpus(path: TextPath, *, key: str = "data.path") -> Corpus:
    """Open a UTF-8 file, all files that a pattern such as ``plays/*.txt`` matches, sorted by path, or a list of these.

    A leading ``~`` is the home directory; ``**`` does not follow links to directories.

    Line endings are not translated, a byte-order mark is a character, and nothing is inserted between two files.

    Raises:
        UserError: a file, named as the value of ``key``, is missing, unreadable, a directory or a device, or not UTF-8
            (with the byte offset); a pattern matches no file; the corpus is empty.
    """
    paths = path if isinstance(path, Sequence) and not isinstance(path, str) else [path]
    names = [name for each in paths for name in _expand_pattern(str(each), key)]  # YAML reads 2026 as a number
    corpus = Corpus.from_files([_open_file(name, key) for name in names])
    if not len(corpus):
        raise UserError(f"{key}={path} is empty: name a file that contains text")
    return corpus


def read_text(path: TextPath, *, key: str = "data.path") -> str:
    """Read what ``open_corpus`` opens as one string."""
    return "".join(open_corpus(path, key=key))


def _expand_pattern(path: str, key: str) -> list[str]:
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    root = Path(Path(path).anchor)
    found = (match for match in root.glob(str(Path(path).relative_to(root))) if match.is_file())
    matches = sorted(str(match) for match in found if "/." in path or not _is_hidden(match))
    if not matches:
        raise UserError(f"{key}={path} matches no file: check the pattern and the directory that it starts from")
    return matches


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") and part != ".." for part in path.parts)


def _open_file(path: str, key: str) -> TextFile:
    name, location = f"{key}={path}", Path(path)
    try:
        kind = location.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UserError(f"{name} is a directory: name one text file, or a pattern such as '{path}/*.txt'")
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise UserError(f"{name} is a device: name a text file")
        with location.open("rb") as file:
            if stat.S_ISREG(kind):
                return TextFile(name, lambda: location.open("rb"))
            content = file.read(MAX_PIPE_BYTES + 1)  # a pipe can be read only once
    except OSError as error:
        raise _unreadable(name, error) from None
    if len(content) > MAX_PIPE_BYTES:
        raise UserError(f"{name} is a pipe of more than {MAX_PIPE_BYTES >> 30} GB: write it to a file first")
    return TextFile(name, partial(io.BytesIO, content))


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(f"{name} cannot be read ({error.strerror}): check the path and its permissions")


def _last_split_point(text: str) -> int:
    """Find where the last white space after a visible character begins; 0 if there is none."""
    space = max(text.rfind(" "), text.rfind("\n"))
    end = len(text[: space + 1].rstrip())
    # Python strips more characters than tokenizers treat as white space, so only these four end a piece.
    return end if end and text[end] in " \n\r\t" else 0
