"""Chapter 1: a text is a string, and a string is a row of numbers."""

from __future__ import annotations

from collections import Counter

from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.tour.board import Board
from gptladder.tour.pictures import columns, visible

PHRASE = "hii there"
FIRST_LINES = 8


def show(board: Board) -> None:
    """Print the text's length, first lines and vocabulary, and a phrase there and back."""
    text = tiny_shakespeare()
    tokenizer = CharTokenizer.from_text(text)
    codes = tokenizer.encode(PHRASE)
    board.say(
        "All of Tiny Shakespeare is one string. Each distinct character is a token; its number is its place in the "
        "sorted vocabulary. Look how nothing is lost: the numbers lead back to the very same text."
    )
    board.facts(characters=f"{len(text):,}")
    board.text("first lines", "\n".join(text.splitlines()[:FIRST_LINES]))
    board.facts(
        vocabulary=repr(tokenizer.vocabulary),
        vocabulary_size=tokenizer.vocab_size,
    )
    board.facts(text=repr(PHRASE), encoded=codes.tolist(), decoded=repr(tokenizer.decode(codes)))

    count = Counter(text)
    board.picture(
        "characters",
        lambda: columns(
            [visible(character) for character in tokenizer.vocabulary],
            {"how often each character occurs": [count[character] / len(text) for character in tokenizer.vocabulary]},
        ),
    )
