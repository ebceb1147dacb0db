"""A text as the tokens of its two splits: in memory, or, where it is large, mapped from a file that is written once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import BLOCK, Text
from gptladder.data.tokenizer import Tokenizer
from gptladder.system.files import atomic_write

LARGE = 2**24  # characters: less is encoded sooner than it is looked up
TRAILER = 256  # bytes at the end of a file, which say what the others are
FORMAT = 1


class Encoded(NamedTuple):
    """The tokens of the training and the validation split, ``(N,)`` each."""

    train: Tensor
    val: Tensor


def encoded(train: Text, val: Text, tokenizer: Tokenizer, *, cache: str | bool | None = None) -> Encoded:
    """Encode two splits, each by itself: no token reaches from one into the other.

    Args:
        train, val: parts of one text.
        tokenizer: which knows the text.
        cache: the directory for large texts; ``None`` is the user's, ``False`` none. What cannot be written there
            is held in memory.
    """
    if cache is not False and len(train) + len(val) >= LARGE:
        path = _directory(cache) / f"{_key(train, val, tokenizer)}.tokens"
        try:
            if not _whole(path):
                with atomic_write(path) as file:
                    _write(file, train, val, tokenizer)
            return _mapped(path)
        except OSError as error:
            print(f"data.cache: {path} cannot be kept ({error.strerror}): the text stays in memory", file=sys.stderr)
    memory = io.BytesIO()
    _write(memory, train, val, tokenizer)
    return _parted(np.frombuffer(memory.getbuffer(), np.uint8), _said(memory))


def _directory(cache: str | bool | None) -> Path:
    if isinstance(cache, str):
        return Path(cache)
    own = os.environ.get("GPTLADDER_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-ladder"


def _key(train: Text, val: Text, tokenizer: Tokenizer) -> str:
    """All that decides the tokens."""
    what = [FORMAT, train.sha256, len(train), len(val), tokenizer.state_dict()]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _write(file: IO[bytes], train: Text, val: Text, tokenizer: Tokenizer) -> None:
    """The tokens of both splits, then the trailer."""
    counts, checksum = [], 0
    for split in (train, val):
        counts.append(0)
        for piece in split:
            tokens = tokenizer.encode(piece).numpy()
            file.write(tokens.data)
            checksum = zlib.crc32(tokens.data, checksum)
            counts[-1] += len(tokens)
    said = {"dtype": tokenizer.encode("").numpy().dtype.name, "train": counts[0], "val": counts[1], "crc32": checksum}
    file.write(json.dumps(said).encode().ljust(TRAILER))


def _said(file: IO[bytes]) -> dict[str, Any]:
    """What the trailer says.

    Raises:
        ValueError: there is none.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - TRAILER))
    said: dict[str, Any] = json.loads(file.read())
    return said


def _whole(path: Path) -> bool:
    """Whether the file is there and as it was written."""
    try:
        with path.open("rb") as file:
            said = _said(file)
            left, checksum = (said["train"] + said["val"]) * np.dtype(said["dtype"]).itemsize, 0
            if path.stat().st_size != left + TRAILER:
                return False
            file.seek(0)
            while left:
                block = file.read(min(BLOCK, left))
                left, checksum = left - len(block), zlib.crc32(block, checksum)
            return checksum == int(said["crc32"])
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, LookupError):  # the trailer is none of ours
        return False


def _mapped(path: Path) -> Encoded:
    # Copy on write: torch wants an array that could be written to, and the file shall stay as it is.
    content = np.memmap(path, np.uint8, mode="c")
    with path.open("rb") as file:
        return _parted(content, _said(file))


def _parted(content: np.ndarray[Any, np.dtype[np.uint8]], said: dict[str, Any]) -> Encoded:
    flat = torch.from_numpy(content[: len(content) - TRAILER].view(said["dtype"]))
    return Encoded(flat[: said["train"]], flat[said["train"] :])
