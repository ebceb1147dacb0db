"""Text files are read unchanged, or refused with the reason."""

import io
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from gptladder.data import text as text_module
from gptladder.data.text import (
    Corpus,
    TextFile,
    open_corpus,
    read_text,
    tiny_shakespeare,
    tiny_shakespeare_corpus,
)
from gptladder.system.errors import UserError


def test_tiny_shakespeare_is_the_published_file() -> None:
    text = tiny_shakespeare()
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    assert sha256(text.encode()).hexdigest() == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@pytest.mark.parametrize("text", ["a\r\nb\r\n", "a\rb\n", "\ufeffa", "a\0b", "\u2028\x85", "𝄞é"])
def test_every_character_is_kept(text: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert read_text(path) == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"abc\xff", "is not UTF-8: byte 0xff at offset 3"),
        ("é".encode("latin-1"), "is not UTF-8: byte 0xe9 at offset 0"),
        ("abc".encode("utf-16"), "is not UTF-8: byte 0xff at offset 0"),
        ("aé".encode()[:-1], "is not UTF-8: byte 0xc3 at offset 1"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_text(path)
    assert f"data.path={path} {reason}" in str(error.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--text=.* is a directory: name one text file"):
        read_text(tmp_path, key="--text")


def test_files_matching_a_pattern_are_joined_in_path_order(tmp_path: Path) -> None:
    for name, content in {"b.txt": "two", "a.txt": "oné\n", "c/d.txt": "three", "notes.md": "no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert read_text(tmp_path / "*.txt") == "oné\ntwo"
    assert read_text(tmp_path / "**/*.txt") == "oné\ntwothree"
    assert open_corpus(tmp_path / "*.txt").sha256 == sha256("oné\ntwo".encode()).hexdigest()


@pytest.mark.parametrize("kind", [list, tuple, OmegaConf.create])
def test_a_list_of_files_is_read_in_its_order(kind: Callable[[list[str]], Any], tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("b.txt", "a.txt")]
    for path, content in zip(paths, ("one", "two"), strict=True):
        Path(path).write_text(content)
    assert read_text(kind(paths)) == "onetwo"


def test_an_existing_file_wins_over_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("brackets")
    (tmp_path / "a1.txt").write_text("one")
    assert read_text(tmp_path / "a[1].txt") == "brackets"


def test_a_pattern_without_matches_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.path=.*\*\.txt matches no file: check the pattern"):
        read_text(tmp_path / "*.txt")


def test_the_error_names_the_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "b.txt").write_bytes(b"abc\xff")
    with pytest.raises(UserError, match=r"b\.txt is not UTF-8: byte 0xff at offset 3"):
        read_text(tmp_path / "*.txt")


@given(st.text(min_size=1), st.integers(1, 7), st.floats(0.01, 0.99))
def test_a_corpus_read_in_chunks_equals_the_text(text: str, size: int, fraction: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "READ_SIZE", size)
        corpus = Corpus.from_files([TextFile("text", lambda: io.BytesIO(text.encode()))])
        train, val = corpus.split(fraction)
        assert (len(corpus), corpus.sha256) == (len(text), sha256(text.encode()).hexdigest())
        assert ("".join(corpus), "".join(train) + "".join(val)) == (text, text)
        assert "".join(train) == text[: int(fraction * len(text))]


def test_invalid_utf8_is_reported_at_its_offset_for_every_read_size(monkeypatch: pytest.MonkeyPatch) -> None:
    content = "aé𝄞".encode() * 3 + b"\xf0\x9d" + b"z" * 9
    for size in range(1, 12):
        monkeypatch.setattr(text_module, "READ_SIZE", size)
        with pytest.raises(UserError, match="byte 0xf0 at offset 21"):
            Corpus.from_files([TextFile("text", lambda: io.BytesIO(content))])


def test_a_tokenizer_gets_small_pieces_of_a_large_text() -> None:
    """It takes some hundred bytes per character while it encodes a piece."""
    pieces = list(tiny_shakespeare_corpus())
    assert max(map(len, pieces)) < 1.1 * text_module.PIECE_CHARS
    assert "".join(pieces) == tiny_shakespeare()


def test_a_corpus_without_white_space_is_still_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "READ_SIZE", 10)
    monkeypatch.setattr(text_module, "MAX_PIECE_CHARS", 30)
    pieces = list(Corpus.from_files([TextFile("text", lambda: io.BytesIO(b"x" * 200))]))
    assert "".join(pieces) == "x" * 200
    assert max(map(len, pieces)) <= 40


def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.txt").write_text("abc")
    assert read_text("~/x.txt") == read_text("~/*.txt") == "abc"


def test_a_list_of_files_and_patterns_is_joined_in_its_order(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    assert read_text([tmp_path / "c.txt", str(tmp_path / "[ab].txt")]) == "cab"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/random", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="is a device: name a text file"):
        read_text(path)


def test_a_pipe_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "MAX_PIPE_BYTES", 100_000)
    read_end, write_end = os.pipe()
    # What is not read fits into a pipe, so that the writer ends.
    writer = Thread(target=lambda: os.write(write_end, b"y" * 150_000), daemon=True)
    writer.start()
    with pytest.raises(UserError, match="is a pipe of more than 0 GB: write it to a file first"):
        read_text(f"/dev/fd/{read_end}")
    writer.join()
    os.close(read_end)
    os.close(write_end)


def test_links_that_form_a_loop_do_not_keep_a_pattern_from_ending(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "a" / f"up-{number}").symlink_to(tmp_path)
        (tmp_path / "a" / "b" / f"up-{number}").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "x.txt").write_text("x")
    (tmp_path / "y.txt").symlink_to(tmp_path / "a" / "b" / "x.txt")
    (tmp_path / ".hidden.txt").write_text("h")
    assert read_text(tmp_path / "**" / "*.txt") == "xx"
