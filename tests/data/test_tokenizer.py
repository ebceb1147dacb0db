"""Every tokenizer encodes text to tokens and decodes them back."""

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
from gptladder.data.tokenizer import CharTokenizer, Tokenizer, decode_stream, token_labels
from gptladder.runs.checkpoint import build_tokenizer
from gptladder.system.errors import UserError
from helpers.tokenizers import TINY_BPE, TINY_GPT2

SPLITS = tiny_shakespeare_corpus().split(0.9)
BYTE_LEVEL = [pytest.param(TINY_BPE, id="bpe"), pytest.param(GPT2Tokenizer(TINY_GPT2), id="gpt2")]


@given(st.text(min_size=1))
def test_decoding_inverts_encoding(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(min_size=1), st.text())
def test_a_text_is_encoded_only_if_all_its_characters_are_in_the_vocabulary(known: str, text: str) -> None:
    tokenizer = CharTokenizer.from_text(known)
    if set(text) <= set(known):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        with pytest.raises(UserError, match="is not in the vocabulary"):
            tokenizer.encode(text)


def test_the_vocabulary_of_tiny_shakespeare_is_the_lectures() -> None:
    tokenizer = CharTokenizer.from_text(tiny_shakespeare())
    assert tokenizer.vocab_size == 65
    assert tokenizer.encode("hii there").tolist() == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    assert tokenizer.decode([0]) == "\n"


def test_the_error_names_an_unknown_character_and_its_position() -> None:
    with pytest.raises(UserError, match="character 'é' at position 2 is not in the vocabulary of 2 characters"):
        CharTokenizer("ab").encode("abé")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(255, torch.uint8), (256, torch.int16), (2**15 - 1, torch.int16), (2**15, torch.int32)],
)
def test_tokens_have_the_smallest_dtype_with_room_for_unknown(size: int, dtype: torch.dtype) -> None:
    tokenizer = CharTokenizer("".join(map(chr, range(size))))
    tokens = tokenizer.encode(tokenizer.vocabulary)
    assert tokens.dtype == dtype
    assert tokens.tolist() == list(range(size))
    with pytest.raises(UserError):
        tokenizer.encode(chr(size))


def test_a_tokenizer_is_rebuilt_from_its_state() -> None:
    tokenizer = CharTokenizer.from_text("to be\r\n")
    assert CharTokenizer.from_state(tokenizer.state_dict()).vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize("tokenizer", BYTE_LEVEL)
@given(st.text())
def test_a_byte_level_tokenizer_encodes_every_text(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int16
    assert tokenizer.decode(tokens) == text
    assert len(token_labels(tokenizer, tokens.tolist())) == len(tokens)


@pytest.mark.parametrize("tokenizer", BYTE_LEVEL)
def test_a_special_token_in_the_text_is_encoded_as_text(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("<|endoftext|>")) > 1


@pytest.mark.parametrize("tokenizer", BYTE_LEVEL)
def test_decode_stream_yields_complete_characters(tokenizer: Tokenizer) -> None:
    text = "naïve 𝄞 and 日本"
    tokens = tokenizer.encode(text).tolist()
    assert "\ufffd" in "".join(token_labels(tokenizer, tokens))  # some tokens are parts of characters
    assert "".join(decode_stream(tokenizer, tokens)) == text
    assert "".join(decode_stream(tokenizer, tokens[:-1])) == text[:-1]  # the incomplete last character is dropped


@pytest.mark.parametrize("tokenizer", BYTE_LEVEL)
def test_a_lone_surrogate_is_a_user_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"'\\udcff' at position 1"):
        tokenizer.encode("a\udcff")


@pytest.mark.parametrize("tokenizer", BYTE_LEVEL)
@given(st.text(alphabet="ab  \n\n\t\r.'s1\u3000\x1c", max_size=60), st.integers(1, 9))
def test_tokens_of_the_pieces_equal_tokens_of_the_whole_text(tokenizer: Tokenizer, text: str, size: int) -> None:
    for name in ("READ_SIZE", "PIECE_CHARS"):
        _assert_same_tokens_in_pieces(tokenizer, text, name, size)


def _assert_same_tokens_in_pieces(tokenizer: Tokenizer, text: str, name: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, name, size)
        pieces = list(text_module.Corpus.from_files([text_module.TextFile("text", lambda: io.BytesIO(text.encode()))]))
    assert "".join(pieces) == text
    assert [token for piece in pieces for token in tokenizer.encode(piece).tolist()] == tokenizer.encode(text).tolist()


def test_bpe_is_trained_on_the_training_split_only() -> None:
    train, val = "the cat " * 100, "dog dog " * 1000
    tokenizer = BPETokenizer.from_text(train, val, vocab_size=300)
    assert len(tokenizer.encode(" cat")) == 1
    assert len(tokenizer.encode(" dog")) == 4
    assert tokenizer.vocab_size < 300  # there are no more pairs to merge


def test_bpe_training_does_not_depend_on_the_size_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = []
    for size in (1_000, text_module.PIECE_CHARS, 10**7):
        monkeypatch.setattr(text_module, "PIECE_CHARS", size)
        train, val = text_module.tiny_shakespeare_corpus().split(0.9)
        learned.append(BPETokenizer.from_text(train, val, vocab_size=400).state_dict())
    assert learned[0] == learned[1] == learned[2]


def test_bpe_training_is_deterministic() -> None:
    first, second = (BPETokenizer.from_text(*SPLITS, vocab_size=512) for _ in range(2))
    assert first.state_dict() == second.state_dict()
    assert first.vocab_size == 512
    assert first.encode("First Citizen:").tolist() == second.encode("First Citizen:").tolist()


@pytest.mark.parametrize("size", [0, 255, -1, 1e3, "many", True])
def test_a_bpe_vocabulary_smaller_than_the_bytes_is_refused(size: object) -> None:
    with pytest.raises(UserError, match=f"tokenizer.vocab_size={size}"):
        BPETokenizer.from_text("abc", vocab_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "{}", "[]", "to be"])
def test_an_invalid_bpe_state_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        build_tokenizer({"kind": "bpe", "engine": content})


def test_every_kind_of_tokenizer_is_rebuilt_from_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: TINY_GPT2)
    for tokenizer in (CharTokenizer.from_text(*SPLITS), TINY_BPE, GPT2Tokenizer.from_text()):
        again = build_tokenizer(tokenizer.state_dict())
        assert type(again) is type(tokenizer)
        assert again.vocab_size == tokenizer.vocab_size
        assert again.encode("O Romeo").tolist() == tokenizer.encode("O Romeo").tolist()


def test_the_gpt2_error_says_how_to_get_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> None:
        raise ConnectionError(f"no route to the files of {name}")

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    with pytest.raises(UserError, match="set TIKTOKEN_CACHE_DIR"):
        GPT2Tokenizer.from_text("any text")


def test_gpt2_is_the_published_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        tokenizer = GPT2Tokenizer.from_text()
    except UserError as error:
        pytest.skip(str(error))
    assert tokenizer.vocab_size == 50_257
    assert tokenizer.encode("Hello there").tolist() == [15496, 612]
    assert tokenizer.encode("Hello there").dtype == torch.int32


@pytest.mark.parametrize(("library", "module"), [("tokenizers", "bpe"), ("tiktoken", "gpt2_tokenizer")])
def test_a_missing_library_is_named_with_its_extra(library: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"gptladder.data.{module}")
    with pytest.raises(UserError, match=r"pip install -e '\.\[(bpe|gpt2)\]'"):
        __import__(f"gptladder.data.{module}")
