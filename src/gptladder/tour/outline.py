"""The chapters of the tour, and which of them were asked for. Nothing here waits for torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gptladder.system.errors import UserError, suggest


class Chapter(NamedTuple):
    """A chapter: its place, the module whose ``show`` tells it, and its title."""

    number: int
    name: str
    title: str


TITLES = {
    "text": "The text, and its characters as numbers",
    "block": "The split, and what one block teaches",
    "batch": "Batches: many blocks at once",
    "bigram": "The bigram: a table that learns",
    "averages": "Averaging the past, four ways",
    "head": "One head of self-attention",
    "scaling": "Why scores are divided by sqrt(head_size)",
    "depth": "Wide and deep: heads in parallel, residual paths, LayerNorm",
    "ladder": "The ladder: one change a rung",
}
CHAPTERS = tuple(Chapter(number, *item) for number, item in enumerate(TITLES.items(), start=1))


def chosen(words: Iterable[str]) -> list[Chapter]:
    """The chapters that words name, each once: a number, a range such as ``2-4``, or a name; none name all.

    Raises:
        UserError: a word names no chapter.
    """
    picked = [chapter for word in words for part in word.split(",") for chapter in _named(part.strip())]
    return list(dict.fromkeys(picked)) or list(CHAPTERS)


def _named(word: str) -> Iterator[Chapter]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span is None:
        if word not in TITLES:
            raise UserError(f"--chapter={word} does not exist: {suggest(word, TITLES, otherwise=TITLES)}")
        yield CHAPTERS[list(TITLES).index(word)]
        return
    first, last = int(span[1]), int(span[2] or span[1])
    if not 1 <= first <= last <= len(CHAPTERS):
        close = min(max(first, 1), len(CHAPTERS))
        raise UserError(
            f"--chapter={word} does not exist: chapters go from 1 to {len(CHAPTERS)}, take --chapter {close}, "
            "or see --list"
        )
    yield from CHAPTERS[first - 1 : last]
