"""Chapter 1: a text is a string, and a tokenizer turns a string into numbers."""

from __future__ import annotations

from collections import Counter

from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.tour.console import TourConsole
from gptladder.tour.plots import plot_bars, printable

PHRASE = "hii there"
N_LINES = 8


def show(console: TourConsole) -> None:
    """Print the length, first lines and vocabulary of the text, and a phrase encoded and decoded."""
    text = tiny_shakespeare()
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(PHRASE)
    console.paragraph(
        "Tiny Shakespeare is one long string. Each distinct character is a token, and its number is its position in "
        "the sorted vocabulary. Encoding loses nothing: decoding the numbers gives the same text back."
    )
    console.code(CharTokenizer.from_text, CharTokenizer.decode)
    console.values(characters=f"{len(text):,}")
    console.quote("first lines", "\n".join(text.splitlines()[:N_LINES]))
    console.values(
        vocabulary=repr(tokenizer.vocabulary),
        vocabulary_size=tokenizer.vocab_size,
    )
    console.values(text=repr(PHRASE), encoded=tokens.tolist(), decoded=repr(tokenizer.decode(tokens)))

    counts = Counter(text)
    console.save_plot(
        "characters",
        lambda: plot_bars(
            [printable(character) for character in tokenizer.vocabulary],
            {"how often each character occurs": [counts[character] / len(text) for character in tokenizer.vocabulary]},
            xlabel="character",
            ylabel="share of the text",
        ),
    )
