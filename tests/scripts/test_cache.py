"""``scripts/cache.py`` lists what is kept of large texts, and deletes that and nothing else."""

import os
import time
from functools import partial
from pathlib import Path

import pytest

from gptladder.data import token_cache
from gptladder.data.bpe import BPETokenizer
from gptladder.data.cache import cache_files
from gptladder.data.merges_cache import learn_tokenizer
from gptladder.data.text import open_corpus, tiny_shakespeare
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer
from gptladder.system.units import format_size
from helpers.configs import assert_refused, ran


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the merges and the tokens of one text, next to a file of another program."""
    monkeypatch.setattr(token_cache, "MIN_CACHED_CHARS", 1)
    monkeypatch.setenv("GPTLADDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "my [red] plays.txt").write_text(tiny_shakespeare()[:20_000])
    train, val = open_corpus(tmp_path / "my [red] plays.txt").split(0.9)
    tokenizer = learn_tokenizer(lambda *_: CharTokenizer.from_text(train, val), train, val)
    encode_splits(train, val, tokenizer)
    monkeypatch.chdir(tmp_path)
    train, val = open_corpus("my [red] plays.txt").split(0.9)
    encode_splits(train, val, learn_tokenizer(partial(BPETokenizer.from_text, vocab_size=300), train, val))
    (tmp_path / "cache/notes.tokens").write_text("mine")
    (tmp_path / "cache/.x.part").write_text("of a killed process")
    return tmp_path / "cache"


def test_the_table_says_what_each_file_is_of(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in cache_files(cache):
        os.utime(file.path, (time.time() - 7200, time.time() - 7200))
    ran("cache.py", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{cache}: 3 files, ")
    assert "merges of my [red] plays.txt: 300 tokens" in printed
    assert "(bpe) of my [red] plays.txt" in printed
    assert "20,000 tokens (char) of " in printed
    assert "2 h 0 min" in printed
    assert "notes" not in printed


def test_clearing_deletes_our_files_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("cache.py", "--clear", monkeypatch=monkeypatch)
    assert capsys.readouterr().out.startswith("deleted 3 files, ")
    assert [path.name for path in cache.iterdir()] == ["notes.tokens"]
    ran("cache.py", "--clear", monkeypatch=monkeypatch)
    assert capsys.readouterr().out == f"deleted 0 files, 0 bytes from {cache}\n"


def test_another_directory_and_none_at_all(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.rename(tmp_path / "other")
    ran("cache.py", monkeypatch=monkeypatch)
    assert capsys.readouterr().out == f"{cache}: 0 files, 0 bytes\n"
    ran("cache.py", "--dir", str(tmp_path / "other"), monkeypatch=monkeypatch)
    assert "3 files" in capsys.readouterr().out
    assert_refused("cache.py", "--dir absent", named="absent", monkeypatch=monkeypatch, capsys=capsys)
    assert not cache.exists()


def test_damaged_files_are_listed_as_such(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in cache_files(cache):
        file.path.write_bytes(b"x" * 3000)
    ran("cache.py", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert printed.count(" damaged ") == 3


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (3100, "3.1 KB"), (999_600, "1.0 MB"), (20 * 10**6, "20 MB"),
     (1.5 * 10**9, "1.5 GB"), (10**13, "10 TB")],
)  # fmt: skip
def test_sizes_are_rounded_to_two_digits(n_bytes: int, text: str) -> None:
    assert format_size(int(n_bytes)) == text
