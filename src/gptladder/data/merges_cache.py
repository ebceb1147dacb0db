"""The merges of a tokenizer, learned once per text and settings."""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gptladder.data import token_cache
from gptladder.data.cache import cache_directory, describe_corpus
from gptladder.data.text import Corpus
from gptladder.data.tokenizer import Tokenizer
from gptladder.system.files import atomic_write
from gptladder.system.records import read_json

FORMAT_VERSION = 1


def learn_tokenizer(
    learn: Callable[[Corpus, Corpus], Tokenizer], train: Corpus, val: Corpus, *, cache: str | bool | None = None
) -> Tokenizer:
    """The tokenizer of two splits; if it has merges and the text is large, from the cache.

    Args:
        learn: builds it from the splits, such as ``partial(BPETokenizer.from_text, vocab_size=1024)``.
        cache: as of ``encode_splits``.
    """
    options = learn.keywords if isinstance(learn, partial) else {}
    function: Any = learn.func if isinstance(learn, partial) else learn
    kind: Any = getattr(function, "__self__", None)  # the class of a class method
    n_characters = len(train) + len(val)
    if cache is False or n_characters < token_cache.MIN_CACHED_CHARS or not getattr(kind, "has_merges", False):
        return learn(train, val)
    path = cache_directory(cache) / f"{_key(train, options)}.merges"
    state = _read(path)
    if state is not None:
        tokenizer: Tokenizer = kind.from_state(state)
        return tokenizer
    tokenizer = learn(train, val)
    content = {"text": describe_corpus(train), "tokens": tokenizer.vocab_size, "state": tokenizer.state_dict()}
    try:
        with atomic_write(path) as file:
            file.write(json.dumps({**content, "crc32": _checksum(content)}).encode())
    except OSError as error:
        print(f"data.cache: {path} cannot be used ({error.strerror}): the merges are not kept", file=sys.stderr)
    return tokenizer


def describe_merges(path: Path) -> str:
    """What a file of the cache has the merges of."""
    content = _read_content(path)
    return "damaged" if content is None else f"merges of {content['text']}: {content['tokens']:,} tokens"


def _key(train: Corpus, options: dict[str, Any]) -> str:
    """Hash everything that determines the merges."""
    content = [FORMAT_VERSION, version("tokenizers"), train.sha256, train.start, train.stop, sorted(options.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any] | None:
    content = _read_content(path)
    state = None if content is None else content["state"]
    return state if isinstance(state, dict) else None


def _read_content(path: Path) -> dict[str, Any] | None:
    """The content of a file that ``learn_tokenizer`` wrote; ``None`` for any other, and for a damaged one."""
    try:
        content = read_json(path)
        checksum = content.pop("crc32")
        if content.keys() == {"text", "tokens", "state"} and checksum == _checksum(content):
            return dict(content)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        pass
    return None


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
