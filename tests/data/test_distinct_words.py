"""Long texts are encoded word by word, each distinct word once: the tokens are those of the whole text."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptladder.data import bpe, distinct_words
from gptladder.data.bpe import BPETokenizer
from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import smallest_int_dtype
from helpers.tokenizers import TINY_BPE

# White space of every kind, also what Python and the library do not agree on, and what GPT-2's pattern splits.
DIFFICULT = "ab  \n\n\t\r\f\x1c\x1f\x85\xa0\u2003\u3000\u200b\ufeff.,'s1é日\u0301😀"


def encode_at_once(text: str) -> list[int]:
    """The tokens of a text that the library encodes in one piece."""
    tokens: list[int] = TINY_BPE.backend.encode(text, add_special_tokens=False).ids
    return tokens


def fresh() -> BPETokenizer:
    return BPETokenizer.from_state(TINY_BPE.state_dict())


@given(st.text(alphabet=DIFFICULT, max_size=80), st.integers(1, 3), st.integers(1, 4))
def test_tokens_of_the_words_equal_those_of_the_whole_text(text: str, n_joined: int, max_words: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "SHORT_TEXT", -1)
        patch.setattr(distinct_words, "N_JOINED", n_joined)
        patch.setattr(distinct_words, "MAX_WORDS", max_words)
        tokenizer = fresh()
        for part in (text, text[: len(text) // 2], text):  # with words that were seen before, and forgotten again
            tokens = tokenizer.encode(part)
            assert tokens.tolist() == encode_at_once(part)
            assert tokens.numpy().dtype == smallest_int_dtype(tokenizer.vocab_size)


@given(st.text(max_size=60))
def test_any_text_has_the_tokens_of_the_whole_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "SHORT_TEXT", -1)
        assert fresh().encode(f"{text} {text}").tolist() == encode_at_once(f"{text} {text}")


def test_shakespeare_has_the_tokens_of_the_whole_text() -> None:
    text = tiny_shakespeare()[:200_000]
    assert len(text) > bpe.SHORT_TEXT
    assert fresh().encode(text).tolist() == encode_at_once(text)


def test_a_word_is_encoded_once() -> None:
    encoded: list[str] = []
    words = distinct_words.DistinctWords(
        lambda texts: [encoded.extend(texts) or encode_at_once(text) for text in texts],
        [TINY_BPE.token_bytes(token) for token in range(TINY_BPE.vocab_size)],
    )
    for _ in range(2):
        words.encode("to be or not to be")
    assert encoded == [" be or not to", "to", "to"]  # the first word of each text has no space before it


@pytest.mark.parametrize("limit", ["MAX_WORDS", "MAX_CHARS"])
def test_memory_is_bounded(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct_words, limit, 1000)
    tokenizer, generator = fresh(), random.Random(1)
    for _ in range(5):
        text = " ".join(f"{generator.getrandbits(80):x}" for _ in range(900))
        assert len(text) > bpe.SHORT_TEXT
        assert tokenizer.encode(text).tolist() == encode_at_once(text)
        assert len(tokenizer._words._numbers) <= 2000


FORK = """
import os, sys
from gptladder.data.bpe import BPETokenizer
text = "to be or not to be " * 2000
tokenizer = BPETokenizer.from_text(text, vocab_size=300)
n = len(tokenizer.encode(text))
if os.fork() == 0:
    os._exit(0 if len(tokenizer.encode(text.upper())) > n else 1)
_, status = os.wait()
print(os.environ.get("TOKENIZERS_PARALLELISM"), status, len(tokenizer.encode(text)) == n)
"""


@pytest.mark.parametrize("setting", [None, "true", "false"])
def test_a_forked_process_encodes_without_threads_or_advice(setting: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key != bpe.PARALLELISM}
    environment |= {} if setting is None else {bpe.PARALLELISM: setting}
    done = subprocess.run(
        [sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == f"{setting} 0 True\n"
    assert done.stderr == ""
