"""Text to tokens and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptladder.errors import UserError
from gptladder.text import shakespeare
from gptladder.tokenizer import CharTokenizer


@given(st.text(min_size=1))
def test_decoding_undoes_encoding(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(min_size=1), st.text())
def test_a_text_is_encoded_if_and_only_if_its_characters_are_known(known: str, text: str) -> None:
    tokenizer = CharTokenizer.from_text(known)
    if set(text) <= set(known):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        with pytest.raises(UserError, match="is not in the vocabulary"):
            tokenizer.encode(text)


def test_the_vocabulary_of_shakespeare_is_the_lectures() -> None:
    tokenizer = CharTokenizer.from_text(shakespeare())
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode("hii there").tolist() == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    assert tokenizer.decode([0]) == "\n"


def test_the_character_outside_the_vocabulary_is_named_with_its_place() -> None:
    with pytest.raises(UserError, match="character 'é' at position 2 is not in the vocabulary of 2 characters"):
        CharTokenizer("ab").encode("abé")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(255, torch.uint8), (256, torch.int16), (2**15 - 1, torch.int16), (2**15, torch.int32)],
)
def test_tokens_take_the_smallest_type_that_also_tells_unknown(size: int, dtype: torch.dtype) -> None:
    tokenizer = CharTokenizer("".join(map(chr, range(size))))
    tokens = tokenizer.encode(tokenizer.vocabulary)
    assert tokens.dtype == dtype
    assert tokens.tolist() == list(range(size))
    with pytest.raises(UserError):
        tokenizer.encode(chr(size))


def test_a_tokenizer_is_rebuilt_from_plain_values() -> None:
    tokenizer = CharTokenizer.from_text("to be\r\n")
    assert CharTokenizer.from_state(tokenizer.state_dict()).vocabulary == tokenizer.vocabulary
