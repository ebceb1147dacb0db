"""Any file can be given as text: it is used unchanged, or refused with one line and without a run directory."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptladder.cli.config_errors import error_message
from gptladder.data.datamodule import TextDataModule
from gptladder.data.text import read_text
from gptladder.data.tokenizer import MAX_VOCAB_SIZE, CharTokenizer
from gptladder.runs.checkpoint import load_trained
from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.processes import ROOT, Warm

MILLION_CHARACTERS = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))[:1_000_000]
BAD: dict[str, tuple[bytes | None, str]] = {
    "empty": (b"", "is empty"),
    "short": (b"to be or not to be", "use a longer text"),
    "one token too short": (
        b"a" * 80,
        "the validation split has 8 tokens, fewer than a window and its next token need (9)",
    ),
    "invalid": (b"ab\xc3\xa9\xffcd" * 50, "is not UTF-8: byte 0xff at offset 4"),
    "cut off": (("é" * 200).encode()[:-1], "byte 0xc3 at offset 398"),
    "surrogate": (b"abc\xed\xa0\x80" * 50, "is not UTF-8: byte 0xed at offset 3"),
    "too many characters": (
        MILLION_CHARACTERS.encode(),
        f"1,000,000 distinct characters, and tokenizer=char takes at most {MAX_VOCAB_SIZE:,}",
    ),
    "missing": (None, "cannot be read (No such file or directory)"),
}
GOOD = {
    "byte-order mark": "\ufeffto be or not to be\n" * 20,
    "CRLF": "to be\r\nor not\r\n" * 20,
    "NUL": "to\0be\0" * 40,
    "one character": "a" * 400,
    "beyond the plane": "𝄞é\u2028\x85" * 100,
    "just long enough": "ab" * 45,
}


def training_arguments(path: Path) -> tuple[str, ...]:
    return ("model=bigram", "data=text", f"data.path={path}", "data.batch_size=2", "trainer.max_steps=2", "logger=none")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_text_is_refused_with_one_line_and_leaves_no_directory(
    kind: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    content, message = BAD[kind]
    path, work = tmp_path / "text.txt", tmp_path / "work"
    work.mkdir()
    if content is not None:
        path.write_bytes(content)
    done = Warm("train.py", *training_arguments(path), cwd=work)
    assert done.end() == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert message in line
    assert list(work.iterdir()) == []
    tried(bad_inputs=1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/", "is a directory: name one text file"),
        ("/proc/self/mem", "cannot be read (Input/output error)"),
        ("text.txt/inner", "cannot be read (Not a directory)"),
        ("n" * 300, "cannot be read (File name too long)"),
    ],
)
def test_an_unreadable_path_is_refused_with_one_line(
    path: str, message: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    (tmp_path / "text.txt").touch()
    path = str(tmp_path / path)
    if "/proc" in path and not Path(path).exists():
        pytest.skip("there is no /proc here")
    with pytest.raises(UserError) as error:
        trained(tmp_path / "run", *training_arguments(Path(path)))
    assert message in str(error_message(error.value, ROOT / "conf"))
    tried(bad_inputs=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_read_permission_is_refused(tmp_path: Path, tried: Callable[..., None]) -> None:
    path = tmp_path / "text.txt"
    path.touch(mode=0)
    with pytest.raises(UserError, match="Permission denied"):
        read_text(path)
    tried(bad_inputs=1)


@pytest.mark.parametrize("kind", GOOD)
def test_an_unusual_text_is_used_unchanged(kind: str, tmp_path: Path, tried: Callable[..., None]) -> None:
    path, text = tmp_path / "text.txt", GOOD[kind]
    path.write_bytes(text.encode())
    result = trained(tmp_path / "run", *training_arguments(path))
    assert result["status"] == "finished"
    assert result["corpus_sha256"] == sha256(text.encode()).hexdigest()
    tokenizer = load_trained(tmp_path / "run/checkpoints/last.ckpt").tokenizer
    assert tokenizer.vocabulary == "".join(sorted(set(text)))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    tried(bad_inputs=1)


def test_an_unusual_text_works_with_the_commands(tmp_path: Path, tried: Callable[..., None]) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(("\ufeffto\0be\r\n" * 40).encode())
    done = Warm("train.py", *training_arguments(path), "hydra.run.dir=run", cwd=tmp_path)
    assert done.end() == 0, done.stderr
    generated = Warm("scripts/generate.py", "--run", "run", "--prompt", "to", "--tokens", "5", cwd=tmp_path)
    assert generated.end() == 0, generated.stderr
    tried(bad_inputs=1)


@given(st.text())
def test_every_text_is_decoded_unchanged(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert CharTokenizer.from_state(tokenizer.state_dict()).encode(text).tolist() == tokenizer.encode(text).tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_exactly_or_refused_at_the_invalid_byte(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    try:
        expected, message = content.decode(), None
    except UnicodeDecodeError as error:
        expected, message = "", f"byte {content[error.start]:#04x} at offset {error.start};"
    if expected:
        assert read_text(path) == expected
    else:
        with pytest.raises(UserError, match=message or "is empty"):
            read_text(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
    st.integers(1, 12),
    st.floats(0.01, 0.99),
)
def test_any_short_text_is_used_or_refused(tmp_path: Path, text: str, block_size: int, split: float) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    arguments = {"path": str(path), "tokenizer": CharTokenizer.from_text, "batch_size": 2, "stream": "independent"}
    arguments |= {"split": split, "block_size": block_size, "estimate_batches": 1, "seed": 1}
    n_train = int(split * len(text))
    if min(n_train, len(text) - n_train) <= block_size:
        with pytest.raises(UserError, match=r"is empty|use a longer text"):
            TextDataModule(**arguments)  # type: ignore[arg-type]
        return
    data = TextDataModule(**arguments)  # type: ignore[arg-type]
    x, _ = next(iter(data.train_batches()))
    assert x.shape == (2, block_size)
    assert max(x.flatten().tolist()) < data.tokenizer.vocab_size
    for batches in data.val_dataloader():
        assert all(y.numel() for _, y in batches)
