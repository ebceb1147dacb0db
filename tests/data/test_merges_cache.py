"""The merges of a large text are learned once for a text and its settings."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gptladder.data import token_cache
from gptladder.data.bpe import BPETokenizer
from gptladder.data.merges_cache import describe_merges, learn_tokenizer
from gptladder.data.text import Corpus, TextFile, tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from helpers.configs import trained

CONTENT = tiny_shakespeare()[:20_000]

Learn = Callable[[Corpus, Corpus], Tokenizer]


@pytest.fixture(autouse=True)
def every_corpus_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MIN_CACHED_CHARS", 1)


def splits(content: str = CONTENT, fraction: float = 0.9) -> tuple[Corpus, Corpus]:
    return Corpus.from_files([TextFile("data.path=a.txt", lambda: io.BytesIO(content.encode()))]).split(fraction)


def bpe(vocab_size: Any = 300) -> Learn:
    return partial(BPETokenizer.from_text, vocab_size=vocab_size)


def learned_again(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever merges are learned."""
    times: list[int] = []
    learn = BPETokenizer.from_text.__func__  # type: ignore[attr-defined]

    def counting(cls: type[BPETokenizer], *texts: Corpus, **options: Any) -> BPETokenizer:
        times.append(1)
        return learn(cls, *texts, **options)

    monkeypatch.setattr(BPETokenizer, "from_text", classmethod(counting))
    return times


def test_merges_are_learned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = learned_again(monkeypatch)
    first, second = (learn_tokenizer(bpe(), *splits(), cache=str(tmp_path)) for _ in range(2))
    assert len(times) == 1
    assert first.state_dict() == second.state_dict()
    assert first.encode(CONTENT).tolist() == second.encode(CONTENT).tolist()
    (path,) = tmp_path.iterdir()
    assert describe_merges(path) == "merges of a.txt: 300 tokens"


def test_each_text_split_and_size_has_its_own_merges(tmp_path: Path) -> None:
    others = (splits(), 300), (splits(CONTENT[1:]), 300), (splits(fraction=0.8), 300), (splits(), 310)
    for number, (parts, size) in enumerate(others, start=1):
        cached = learn_tokenizer(bpe(size), *parts, cache=str(tmp_path))
        assert len(list(tmp_path.iterdir())) == number
        assert cached.state_dict() == bpe(size)(*parts).state_dict()


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"[" * 10_000, None, "crc32", "state"])
def test_damaged_merges_are_learned_again(damage: bytes | str | None, tmp_path: Path) -> None:
    expected = learn_tokenizer(bpe(), *splits(), cache=str(tmp_path)).state_dict()
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if isinstance(damage, str):
        path.write_text(json.dumps({**json.loads(content), damage: 1}))
    else:
        path.write_bytes(content[:-2] if damage is None else damage)
    assert describe_merges(path) == "damaged"
    assert learn_tokenizer(bpe(), *splits(), cache=str(tmp_path)).state_dict() == expected
    assert path.read_bytes() == content


def test_merges_are_learned_where_the_cache_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    learned = learn_tokenizer(bpe(), *splits(), cache=str(tmp_path / "file"))
    assert learned.state_dict() == bpe()(*splits()).state_dict()
    assert "the merges are not kept" in capsys.readouterr().err


def test_nothing_else_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn_tokenizer(CharTokenizer.from_text, *splits(), cache=str(tmp_path))
    learn_tokenizer(lambda train, val: CharTokenizer("ab"), *splits(), cache=str(tmp_path))
    monkeypatch.setenv("GPTLADDER_CACHE", str(tmp_path))
    learn_tokenizer(bpe(), *splits(), cache=False)
    monkeypatch.setattr(token_cache, "MIN_CACHED_CHARS", len(CONTENT) + 1)
    learn_tokenizer(bpe(), *splits())
    assert not list(tmp_path.iterdir())


def test_training_with_cached_merges_equals_training_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.txt").write_text(CONTENT)
    few = ["model=bigram", "trainer.max_steps=2", "logger=none", "data.estimate_batches=2", "data=text",
           f"data.path={tmp_path}/text.txt", "tokenizer=bpe", "tokenizer.vocab_size=300"]  # fmt: skip
    without = trained(tmp_path / "a", *few, "data.cache=false")
    times = learned_again(monkeypatch)
    for run in ("b", "c"):
        cached = trained(tmp_path / run, *few, f"data.cache={tmp_path}/cache")
        assert cached["curve"] == without["curve"]
        assert cached["config_hash"] == without["config_hash"]
    assert sum(times) == 1
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".merges", ".tokens"]
