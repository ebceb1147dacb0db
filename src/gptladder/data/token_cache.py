"""The token cache: large corpora are encoded once, into a file that later runs memory-map."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptladder.data.cache import cache_directory, describe_corpus
from gptladder.data.text import READ_SIZE, Corpus
from gptladder.data.tokenizer import Tokenizer
from gptladder.system.files import atomic_write

MIN_CACHED_CHARS = 2**24  # a smaller corpus is encoded faster than its cache file is checked
FOOTER_BYTES = 1024  # JSON at the end of a cache file: dtype, token counts, checksum, and what it is of
FORMAT_VERSION = 2


class TokenSplits(NamedTuple):
    """The tokens of the training and the validation split, ``(N,)`` each."""

    train: Tensor
    val: Tensor


def encode_splits(train: Corpus, val: Corpus, tokenizer: Tokenizer, *, cache: str | bool | None = None) -> TokenSplits:
    """Encode the two splits of a corpus separately, so that no token spans both.

    Args:
        train, val: parts of one corpus.
        tokenizer: covers the corpus.
        cache: the directory for large corpora; ``None`` is the user's cache directory, ``False`` disables caching.
            If the directory cannot be used, the tokens stay in memory.
    """
    if cache is not False and len(train) + len(val) >= MIN_CACHED_CHARS:
        path = cache_directory(cache) / f"{_cache_key(train, val, tokenizer)}.tokens"
        try:
            if not _is_valid(path):
                with atomic_write(path) as file:
                    _write(file, train, val, tokenizer)
            return _memory_map(path)
        except OSError as error:
            print(
                f"data.cache: {path} cannot be used ({error.strerror}): the tokens stay in memory; "
                "set data.cache to another directory, or to false",
                file=sys.stderr,
            )
    memory = io.BytesIO()
    _write(memory, train, val, tokenizer)
    return _to_tensors(np.frombuffer(memory.getbuffer(), np.uint8), _read_footer(memory))


def _cache_key(train: Corpus, val: Corpus, tokenizer: Tokenizer) -> str:
    """Hash everything that determines the tokens."""
    content = [FORMAT_VERSION, train.sha256, len(train), len(val), tokenizer.state_dict()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _write(file: IO[bytes], train: Corpus, val: Corpus, tokenizer: Tokenizer) -> None:
    """Write the tokens of both splits, then the footer."""
    counts, checksum = [], 0
    for split in (train, val):
        counts.append(0)
        for piece in split:
            tokens = tokenizer.encode(piece).numpy()
            file.write(tokens.data)
            checksum = zlib.crc32(tokens.data, checksum)
            counts[-1] += len(tokens)
    footer = {
        **{"dtype": tokenizer.encode("").numpy().dtype.name, "train": counts[0], "val": counts[1], "crc32": checksum},
        **{"text": describe_corpus(train), "tokenizer": str(tokenizer.state_dict().get("kind"))[:20]},
    }
    file.write(json.dumps(footer, ensure_ascii=False).encode(errors="replace").ljust(FOOTER_BYTES))


def describe_tokens(path: Path) -> str:
    """What a file of the cache has the tokens of."""
    try:
        with path.open("rb") as file:
            footer = _read_footer(file)
        return f"{footer['train'] + footer['val']:,} tokens ({footer['tokenizer']}) of {footer['text']}"
    except (OSError, ValueError, TypeError, LookupError):
        return "tokens of an older version, or damaged"


def _read_footer(file: IO[bytes]) -> dict[str, Any]:
    """Read the footer.

    Raises:
        ValueError: there is none.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - FOOTER_BYTES))
    footer: dict[str, Any] = json.loads(file.read())
    return footer


def _is_valid(path: Path) -> bool:
    """Check that a cache file exists, is complete, and matches its checksum."""
    try:
        with path.open("rb") as file:
            footer = _read_footer(file)
            n_left, checksum = (footer["train"] + footer["val"]) * np.dtype(footer["dtype"]).itemsize, 0
            if path.stat().st_size != n_left + FOOTER_BYTES:
                return False
            file.seek(0)
            while n_left:
                content = file.read(min(READ_SIZE, n_left))
                n_left, checksum = n_left - len(content), zlib.crc32(content, checksum)
            return checksum == int(footer["crc32"])
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, LookupError):  # not a footer that `_write` wrote
        return False


def _memory_map(path: Path) -> TokenSplits:
    # Copy on write: torch wants a writable array, and the file must not change.
    content = np.memmap(path, np.uint8, mode="c")
    with path.open("rb") as file:
        return _to_tensors(content, _read_footer(file))


def _to_tensors(content: np.ndarray[Any, np.dtype[np.uint8]], footer: dict[str, Any]) -> TokenSplits:
    tokens = torch.from_numpy(content[: len(content) - FOOTER_BYTES].view(footer["dtype"]))
    return TokenSplits(tokens[: footer["train"]], tokens[footer["train"] :])
