"""A large corpus is encoded once, into a cache file that is used only if it is valid."""

import io
import json
from pathlib import Path

import pytest
import torch

from gptladder.data import token_cache as module
from gptladder.data.bpe import BPETokenizer
from gptladder.data.datamodule import TextDataModule
from gptladder.data.text import Corpus, TextFile, tiny_shakespeare
from gptladder.data.token_cache import TokenSplits, encode_splits
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from helpers.configs import trained

CONTENT = tiny_shakespeare()[:30_000]
CHARS = CharTokenizer.from_text(CONTENT)


@pytest.fixture(autouse=True)
def every_corpus_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_CACHED_CHARS", 1)


def splits(content: str = CONTENT, fraction: float = 0.9) -> tuple[Corpus, Corpus]:
    return Corpus.from_files([TextFile("text", lambda: io.BytesIO(content.encode()))]).split(fraction)


def equal(first: TokenSplits, second: TokenSplits) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("tokenizer", [CHARS, CharTokenizer(CHARS.vocabulary + "".join(map(chr, range(500, 900))))])
def test_memory_mapped_tokens_equal_those_in_memory(tokenizer: Tokenizer, tmp_path: Path) -> None:
    mapped = encode_splits(*splits(), tokenizer, cache=str(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".tokens"]
    assert equal(mapped, encode_splits(*splits(), tokenizer, cache=False))
    assert tokenizer.decode(mapped.train) + tokenizer.decode(mapped.val) == CONTENT


def test_a_corpus_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encode_splits(*splits(), CHARS, cache=str(tmp_path))
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("encoded again"))
    assert equal(encode_splits(*splits(), CHARS, cache=str(tmp_path)), first)


def test_each_text_split_and_tokenizer_has_its_own_cache_file(tmp_path: Path) -> None:
    bpe = BPETokenizer.from_text(CONTENT, vocab_size=300)
    others = (splits(), CHARS), (splits(CONTENT[1:]), CHARS), (splits(fraction=0.8), CHARS), (splits(), bpe)
    for number, (parts, tokenizer) in enumerate(others, start=1):
        mapped = encode_splits(*parts, tokenizer, cache=str(tmp_path))
        assert len(list(tmp_path.iterdir())) == number
        assert equal(mapped, encode_splits(*parts, tokenizer, cache=False))


@pytest.mark.parametrize("damage", ["empty", "short", "long", "flipped", "footer", "foreign", "not a dict"])
def test_a_damaged_cache_file_is_rewritten(damage: str, tmp_path: Path) -> None:
    expected = encode_splits(*splits(), CHARS, cache=False)
    encode_splits(*splits(), CHARS, cache=str(tmp_path))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert len(content) == len(CONTENT) + module.FOOTER_BYTES
    path.write_bytes(
        {
            "empty": b"",
            "short": content[:-1],
            "long": content + b" ",
            "flipped": bytes([content[0] ^ 1]) + content[1:],
            "footer": content[: -module.FOOTER_BYTES] + b" " * module.FOOTER_BYTES,
            "foreign": b"to be or not to be",
            "not a dict": content[: -module.FOOTER_BYTES] + json.dumps([1]).encode().ljust(module.FOOTER_BYTES),
        }[damage]
    )
    assert equal(encode_splits(*splits(), CHARS, cache=str(tmp_path)), expected)
    assert path.read_bytes() == content


def test_tokens_stay_in_memory_where_the_cache_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    tokens = encode_splits(*splits(), CHARS, cache=str(tmp_path / "file"))
    assert equal(tokens, encode_splits(*splits(), CHARS, cache=False))
    assert "data.cache: " in (stderr := capsys.readouterr().err)
    assert "the tokens stay in memory" in stderr


def test_environment_variables_choose_the_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    encode_splits(*splits(), CHARS)
    monkeypatch.setenv("GPTLADDER_CACHE", str(tmp_path / "own"))
    encode_splits(*splits(), CHARS)
    assert len(list((tmp_path / "xdg/gpt-ladder").iterdir())) == len(list((tmp_path / "own").iterdir())) == 1


def test_a_small_corpus_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_CACHED_CHARS", len(CONTENT) + 1)
    encode_splits(*splits(), CHARS, cache=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_training_from_the_cache_equals_training_from_memory(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(CONTENT)
    few = ["model=bigram", "trainer.max_steps=5", "logger=none", "data=text", f"data.path={tmp_path}/text.txt"]
    mapped = trained(tmp_path / "a", *few, f"data.cache={tmp_path}/cache")
    in_memory = trained(tmp_path / "b", *few, "data.cache=false")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert mapped["curve"] == in_memory["curve"]
    assert mapped["config_hash"] == in_memory["config_hash"]


def test_writing_to_batches_or_tokens_leaves_the_cache_file_unchanged(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(CONTENT)
    data = TextDataModule(
        path=str(tmp_path / "text.txt"), tokenizer=CharTokenizer.from_text, split=0.9, block_size=8, batch_size=4,
        stream="independent", estimate_batches=2, seed=1, cache=str(tmp_path / "cache"),
    )  # fmt: skip
    (path,) = (tmp_path / "cache").iterdir()
    before = path.read_bytes()
    x, _ = next(iter(data.train_batches()))
    x.zero_()
    data.train_tokens.zero_()
    assert path.read_bytes() == before
