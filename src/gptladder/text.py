"""Text as it is on disk: every character kept, every mistake named."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from gptladder.errors import UserError


def shakespeare() -> str:
    """Tiny Shakespeare, 1,115,394 characters, from inside the package."""
    return (resources.files("gptladder.corpus") / "tinyshakespeare.txt").read_bytes().decode()


def read_text(path: str | Path, *, key: str = "data.path") -> str:
    """Read a UTF-8 file without translating line ends or dropping a byte-order mark.

    Raises:
        UserError: the file, given as ``key``, is missing, unreadable, a directory, empty, or not UTF-8 (with the
            byte offset).
    """
    try:
        data = Path(str(path)).read_bytes()  # a name such as 2026 reaches us as a number
    except IsADirectoryError:
        raise UserError(f"{key}={path} is a directory: name one text file") from None
    except OSError as error:
        raise UserError(f"{key}={path} cannot be read ({error.strerror}): check the path and its rights") from None
    if not data:
        raise UserError(f"{key}={path} is empty: give a text of at least one block")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{key}={path} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}; "
            "convert it first (for example with iconv)"
        ) from None


def sha256(text: str) -> str:
    """The fingerprint of a text: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
