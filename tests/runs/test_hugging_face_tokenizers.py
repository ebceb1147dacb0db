"""Tokenizers as ``tokenizer.json``: the same tokens in Hugging Face's library, and every text back from them."""

import json

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from gptladder.data.bpe import BPETokenizer
from gptladder.data.gpt2_tokenizer import GPT2Tokenizer
from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.runs.hugging_face.tokenizer_json import build_from_json, describe_tokenizer, tokenizer_settings
from helpers.hugging_face import json_of, transformers
from helpers.tokenizers import TINY_BPE, TINY_GPT2

# What normalization, cleaning up or splitting at line ends would lose.
DIFFICULT = "\n\r\t\0\x1b\x7f \u00a0\u2028\u3000e\u0301éñ\ufeff\u200b\u200d'.,!?s😀🏳️‍🌈日本\U0010ffff"

TOKENIZERS = {
    "char": CharTokenizer.from_text(DIFFICULT, tiny_shakespeare()),
    "bpe": TINY_BPE,
    "gpt2": GPT2Tokenizer(TINY_GPT2),
}

pytestmark = pytest.mark.xdist_group("hugging_face")


def backend_of(tokenizer: Tokenizer) -> Backend:
    return Backend.from_str(json_of(tokenizer))


BACKENDS = {kind: backend_of(tokenizer) for kind, tokenizer in TOKENIZERS.items()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(st.text(alphabet=st.sampled_from(DIFFICULT + "ab \n")))
def test_every_text_of_the_vocabulary_has_the_same_tokens_and_comes_back(kind: str, text: str) -> None:
    tokens = BACKENDS[kind].encode(text).ids
    assert tokens == TOKENIZERS[kind].encode(text).tolist()
    assert BACKENDS[kind].decode(tokens, skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
@given(st.text())
def test_a_byte_level_tokenizer_takes_any_text(kind: str, text: str) -> None:
    tokens = BACKENDS[kind].encode(text).ids
    assert tokens == TOKENIZERS[kind].encode(text).tolist()
    assert BACKENDS[kind].decode(tokens) == text


@given(st.text(min_size=1))
def test_any_vocabulary_of_characters_is_exported(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    backend = backend_of(tokenizer)
    assert backend.encode(text).ids == tokenizer.encode(text).tolist()
    assert backend.decode(backend.encode(text).ids) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_shakespeare_has_the_same_tokens(kind: str) -> None:
    text = tiny_shakespeare()[:100_000]
    assert BACKENDS[kind].encode(text).ids == TOKENIZERS[kind].encode(text).tolist()


def test_an_unknown_character_is_an_error_there_too() -> None:
    with pytest.raises(Exception, match="Missing"):
        BACKENDS["char"].encode("a∑")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_transformers_changes_nothing(kind: str, tmp_path) -> None:
    """Neither its class for the kind of model nor its decoding adds, removes or cleans up anything."""
    from gptladder.runs.hugging_face.export import export_to_hugging_face
    from helpers.hugging_face import GPT2, build_trained
    from helpers.networks import LLAMA

    for options in (GPT2, LLAMA):
        export_to_hugging_face(build_trained(options, TOKENIZERS[kind]), tmp_path)
        theirs = transformers().AutoTokenizer.from_pretrained(tmp_path)
        assert len(theirs) == TOKENIZERS[kind].vocab_size
        for text in (DIFFICULT, " a b", "\n\n a . b , c !\n", "it 's n't\n", " ", "\n"):
            tokens = theirs(text)["input_ids"]
            assert tokens == TOKENIZERS[kind].encode(text).tolist()
            assert theirs.decode(tokens) == theirs.decode(tokens, skip_special_tokens=True) == text
        assert theirs("a\n", return_tensors="pt").keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_tokenizer_comes_back_from_its_file(kind: str) -> None:
    for description in (describe_tokenizer(TOKENIZERS[kind]), json.loads(BACKENDS[kind].to_str())):
        assert tokenizer_settings(description)[0] == kind
        again = build_from_json(description)
        assert type(again) is type(TOKENIZERS[kind])
        assert again.vocab_size == TOKENIZERS[kind].vocab_size
        assert again.encode(DIFFICULT).tolist() == TOKENIZERS[kind].encode(DIFFICULT).tolist()


def test_the_vocabulary_of_characters_keeps_its_order() -> None:
    extended = CharTokenizer("abc" + "ä" + "B")  # as `unknown_characters=extend` builds it
    again = build_from_json(describe_tokenizer(extended))
    assert again.state_dict() == extended.state_dict()


def test_special_tokens_of_a_model_keep_their_ids_and_are_text_in_a_text() -> None:
    backend = backend_of(TINY_BPE)
    backend.add_special_tokens(["<|endoftext|>", "a b"])
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    description = json.loads(backend.to_str())
    assert tokenizer_settings(description) == ("bpe", {"vocab_size": TINY_BPE.vocab_size + 2})
    tokenizer = build_from_json(description)
    assert isinstance(tokenizer, BPETokenizer)
    text = "once<|endoftext|>upon a bee"
    assert tokenizer.encode(text).tolist() == TINY_BPE.encode(text).tolist()
    assert tokenizer.token_bytes(TINY_BPE.vocab_size) == b"<|endoftext|>"
    assert tokenizer.decode([TINY_BPE.vocab_size + 1]) == "a b"
    again = BPETokenizer.from_state(tokenizer.state_dict())
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_a_special_token_is_made_by_no_merge() -> None:
    encoding = tiktoken.Encoding(
        "without merges",
        pat_str=TINY_GPT2._pat_str,
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={"ab": 256},
    )
    tokenizer = GPT2Tokenizer(encoding)
    assert describe_tokenizer(tokenizer)["model"]["merges"] == []
    assert backend_of(tokenizer).encode("ab").ids == tokenizer.encode("ab").tolist()
