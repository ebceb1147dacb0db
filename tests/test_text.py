"""Text is read as it is on disk, and refused with the reason."""

from pathlib import Path

import pytest

from gptladder.errors import UserError
from gptladder.text import read_text, sha256, shakespeare


def test_shakespeare_is_the_lectures() -> None:
    text = shakespeare()
    assert len(text) == 1_115_394
    assert len(set(text)) == 65
    assert sha256(text) == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


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
def test_a_text_that_cannot_be_used_is_named_with_the_reason(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as mistake:
        read_text(path)
    assert f"data.path={path} {reason}" in str(mistake.value)


def test_a_directory_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--text=.* is a directory: name one text file"):
        read_text(tmp_path, key="--text")
