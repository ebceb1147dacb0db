"""The chapters of the tour, and how the command line selects them. This module does not import torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gptladder.system.errors import UserError, suggest


class Chapter(NamedTuple):
    """A chapter: its number, its title, and its name, which is the module whose ``show`` prints it."""

    number: int
    name: str
    title: str


TITLES = {
    "text": "The text, and its characters as numbers",
    "context": "The split, and the examples in one block",
    "batch": "Batches: several blocks in parallel",
    "bigram": "The bigram: a table of next-character logits",
    "averages": "Averaging the past, four ways",
    "head": "One head of self-attention",
    "scaling": "Why scores are divided by sqrt(head_size)",
    "depth": "Wide and deep: parallel heads, residual connections, LayerNorm",
    "ladder": "The ladder: from bigram to GPT and Llama, one config per rung",
    "modern": "Beyond the lecture: the parts of Llama",
    "mistakes": "Mistakes that raise no error",
}
CHAPTERS = tuple(Chapter(number, *item) for number, item in enumerate(TITLES.items(), start=1))


def select_chapters(selectors: Iterable[str]) -> list[Chapter]:
    """Return the selected chapters, each once; no selector selects all.

    Args:
        selectors: numbers, ranges such as ``2-4``, or names; commas separate several in one string.

    Raises:
        UserError: a selector matches no chapter.
    """
    selected = [chapter for words in selectors for word in words.split(",") for chapter in _match(word.strip())]
    return list(dict.fromkeys(selected)) or list(CHAPTERS)


def _match(word: str) -> Iterator[Chapter]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span is None:
        if word not in TITLES:
            raise UserError(f"--chapter={word} does not exist: {suggest(word, TITLES, otherwise=TITLES)}")
        yield CHAPTERS[list(TITLES).index(word)]
        return
    first, last = int(span[1]), int(span[2] or span[1])
    if not 1 <= first <= last <= len(CHAPTERS):
        nearest = min(max(first, 1), len(CHAPTERS))
        raise UserError(
            f"--chapter={word} does not exist: chapters go from 1 to {len(CHAPTERS)}, take --chapter {nearest}, "
            "or see --list"
        )
    yield from CHAPTERS[first - 1 : last]
