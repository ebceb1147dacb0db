"""Text to tokens and back, whatever the tokenizer."""

import io
import sys

import pytest
import tiktoken
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptladder.data import text as text_module
from gptladder.data.bpe import BPETokenizer
from gptladder.data.gpt2_tokenizer import GPT2Tokenizer
from gptladder.data.text import tiny_shakespeare, tiny_shakespeare_corpus
from gptladder.data.tokenizer import CharTokenizer, Tokenizer, decode_stream, labels
from gptladder.runs.checkpoint import rebuilt
from gptladder.system.errors import UserError
from helpers.tokenizers import PAIRS, TINY_GPT2

SPLITS = tiny_shakespeare_corpus().split(0.9)
OF_BYTES = [pytest.param(PAIRS, id="bpe"), pytest.param(GPT2Tokenizer(TINY_GPT2), id="gpt2")]


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
    tokenizer = CharTokenizer.from_text(tiny_shakespeare())
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


@pytest.mark.parametrize("tokenizer", OF_BYTES)
@given(st.text())
def test_a_tokenizer_of_bytes_takes_every_text_and_gives_it_back(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int16
    assert tokenizer.decode(tokens) == text
    assert len(labels(tokenizer, tokens.tolist())) == len(tokens)


@pytest.mark.parametrize("tokenizer", OF_BYTES)
def test_what_reads_like_a_special_token_is_text(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("<|endoftext|>")) > 1


@pytest.mark.parametrize("tokenizer", OF_BYTES)
def test_characters_are_streamed_whole(tokenizer: Tokenizer) -> None:
    text = "naïve 𝄞 and 日本"
    tokens = tokenizer.encode(text).tolist()
    assert "\ufffd" in "".join(labels(tokenizer, tokens))  # some tokens are parts of characters
    assert "".join(decode_stream(tokenizer, tokens)) == text
    assert "".join(decode_stream(tokenizer, tokens[:-1])) == text[:-1]  # the last one is not begun


@pytest.mark.parametrize("tokenizer", OF_BYTES)
def test_half_a_surrogate_pair_is_a_mistake(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"'\\udcff' at position 1"):
        tokenizer.encode("a\udcff")


@pytest.mark.parametrize("tokenizer", OF_BYTES)
@given(st.text(alphabet="ab  \n\n\t\r.'s1\u3000\x1c", max_size=60), st.integers(1, 9))
def test_the_tokens_of_the_pieces_are_those_of_the_whole(tokenizer: Tokenizer, text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "BLOCK", size)
        pieces = list(text_module.Text.of([text_module.TextFile("text", lambda: io.BytesIO(text.encode()))]))
    assert "".join(pieces) == text
    assert [token for piece in pieces for token in tokenizer.encode(piece).tolist()] == tokenizer.encode(text).tolist()


def test_byte_pairs_are_learnt_from_the_training_split_alone() -> None:
    train, val = "the cat " * 100, "dog dog " * 1000
    tokenizer = BPETokenizer.from_text(train, val, vocab_size=300)
    assert len(tokenizer.encode(" cat")) == 1
    assert len(tokenizer.encode(" dog")) == 4
    assert tokenizer.vocab_size < 300  # there is nothing left to join


def test_learning_byte_pairs_twice_gives_the_same() -> None:
    first, second = (BPETokenizer.from_text(*SPLITS, vocab_size=512) for _ in range(2))
    assert first.state_dict() == second.state_dict()
    assert first.vocab_size == 512
    assert first.encode("First Citizen:").tolist() == second.encode("First Citizen:").tolist()


@pytest.mark.parametrize("size", [0, 255, -1, 1e3, "many", True])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(size: object) -> None:
    with pytest.raises(UserError, match=f"tokenizer.vocab_size={size}"):
        BPETokenizer.from_text("abc", vocab_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["", "{}", "[]", "to be"])
def test_a_saved_vocabulary_that_is_none_is_no_tokenizer(engine: str) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        rebuilt({"kind": "bpe", "engine": engine})


def test_every_kind_is_rebuilt_from_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: TINY_GPT2)
    for tokenizer in (CharTokenizer.from_text(*SPLITS), PAIRS, GPT2Tokenizer.from_text()):
        again = rebuilt(tokenizer.state_dict())
        assert type(again) is type(tokenizer)
        assert again.vocab_size == tokenizer.vocab_size
        assert again.encode("O Romeo").tolist() == tokenizer.encode("O Romeo").tolist()


def test_gpt2_says_how_to_provide_the_files_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> None:
        raise ConnectionError(f"no route to the files of {name}")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(UserError, match="set TIKTOKEN_CACHE_DIR"):
        GPT2Tokenizer.from_text("any text")


def test_gpt2_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        tokenizer = GPT2Tokenizer.from_text()
    except UserError as mistake:
        pytest.skip(str(mistake))
    assert tokenizer.vocab_size == 50_257
    assert tokenizer.encode("Hello there").tolist() == [15496, 612]
    assert tokenizer.encode("Hello there").dtype == torch.int32


@pytest.mark.parametrize(("library", "module"), [("tokenizers", "byte_pair"), ("tiktoken", "gpt2")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    library: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"gptladder.{module}")
    with pytest.raises(UserError, match=r"pip install -e '\.\[(bpe|gpt2)\]'"):
        __import__(f"gptladder.{module}")
