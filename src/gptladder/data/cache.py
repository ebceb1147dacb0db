"""The cache of large texts: a directory with what was computed once, which can be listed and deleted at any time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gptladder.data.text import Corpus
from gptladder.system.files import STAGING_SUFFIX, remove_stale_files

# The names of our files, by which those of others are told apart: a key, and what it is the key of.
_NAME = re.compile(r"[0-9a-f]{32}\.(tokens|merges)")

MAX_NAME = 100  # characters of the name of a text


@dataclass(frozen=True)
class CacheFile:
    """A file of the cache, with its size and its age in seconds."""

    path: Path
    n_bytes: int
    age: float


def cache_directory(cache: str | bool | None = None) -> Path:
    """The directory that ``data.cache`` names; ``None`` is ``$GPTLADDER_CACHE``, or that of the user's caches."""
    if isinstance(cache, str):
        return Path(cache)
    configured = os.environ.get("GPTLADDER_CACHE")
    return Path(configured or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt-ladder")


def describe_corpus(corpus: Corpus) -> str:
    """What the cache calls a text: the file, or the first of several."""
    names = [file.name.removeprefix("data.path=") for file in corpus.files]
    name = names[0] if len(names[0]) <= MAX_NAME else f"…{names[0][-MAX_NAME:]}"
    return name if len(names) == 1 else f"{name} and {len(names) - 1} more"


def cache_files(directory: Path) -> Iterator[CacheFile]:
    """The files of the cache, the oldest first; others in the directory are left out."""
    found = [path for path in directory.glob("*") if _NAME.fullmatch(path.name) and path.is_file()]
    ages = {path: path.stat() for path in found}
    for path in sorted(found, key=lambda path: (ages[path].st_mtime, path.name)):
        yield CacheFile(path, ages[path].st_size, max(0.0, time.time() - ages[path].st_mtime))


def clear_cache(directory: Path) -> list[CacheFile]:
    """Delete the files of the cache, and what killed processes left; returns those files.

    A run that uses one of them keeps it until it ends.
    """
    files = list(cache_files(directory))
    for file in files:
        file.path.unlink(missing_ok=True)
    if any(directory.glob(f".*{STAGING_SUFFIX}")):
        remove_stale_files(directory)
    return files
