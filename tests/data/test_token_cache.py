"""Large texts are encoded once, into a file that is trusted only if it is whole."""

import io
import json
from pathlib import Path

import pytest
import torch

from gptladder.data import token_cache as module
from gptladder.data.bpe import BPETokenizer
from gptladder.data.datamodule import TextDataModule
from gptladder.data.text import Text, TextFile, tiny_shakespeare
from gptladder.data.token_cache import Encoded, encoded
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from helpers.configs import trained

CONTENT = tiny_shakespeare()[:30_000]
CHARS = CharTokenizer.from_text(CONTENT)


@pytest.fixture(autouse=True)
def every_text_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 1)


def splits(content: str = CONTENT, share: float = 0.9) -> tuple[Text, Text]:
    return Text.of([TextFile("text", lambda: io.BytesIO(content.encode()))]).split(share)


def same(ours: Encoded, theirs: Encoded) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("tokenizer", [CHARS, CharTokenizer(CHARS.vocabulary + "".join(map(chr, range(500, 900))))])
def test_a_mapped_text_is_the_one_in_memory(tokenizer: Tokenizer, tmp_path: Path) -> None:
    mapped = encoded(*splits(), tokenizer, cache=str(tmp_path))
    assert [path.suffix for path in tmp_path.iterdir()] == [".tokens"]
    assert same(mapped, encoded(*splits(), tokenizer, cache=False))
    assert tokenizer.decode(mapped.train) + tokenizer.decode(mapped.val) == CONTENT


def test_a_text_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoded(*splits(), CHARS, cache=str(tmp_path))
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("encoded again"))
    assert same(encoded(*splits(), CHARS, cache=str(tmp_path)), first)


def test_another_text_split_or_tokenizer_has_a_file_of_its_own(tmp_path: Path) -> None:
    pairs = BPETokenizer.from_text(CONTENT, vocab_size=300)
    others = (splits(), CHARS), (splits(CONTENT[1:]), CHARS), (splits(share=0.8), CHARS), (splits(), pairs)
    for number, (parts, tokenizer) in enumerate(others, start=1):
        mapped = encoded(*parts, tokenizer, cache=str(tmp_path))
        assert len(list(tmp_path.iterdir())) == number
        assert same(mapped, encoded(*parts, tokenizer, cache=False))


@pytest.mark.parametrize("damage", ["empty", "short", "long", "flipped", "trailer", "foreign", "other"])
def test_a_damaged_file_is_written_anew(damage: str, tmp_path: Path) -> None:
    whole = encoded(*splits(), CHARS, cache=False)
    encoded(*splits(), CHARS, cache=str(tmp_path))
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert len(content) == len(CONTENT) + module.TRAILER
    path.write_bytes(
        {
            "empty": b"",
            "short": content[:-1],
            "long": content + b" ",
            "flipped": bytes([content[0] ^ 1]) + content[1:],
            "trailer": content[: -module.TRAILER] + b" " * module.TRAILER,
            "foreign": b"to be or not to be",
            "other": content[: -module.TRAILER] + json.dumps([1]).encode().ljust(module.TRAILER),
        }[damage]
    )
    assert same(encoded(*splits(), CHARS, cache=str(tmp_path)), whole)
    assert path.read_bytes() == content


def test_what_cannot_be_kept_stays_in_memory_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    held = encoded(*splits(), CHARS, cache=str(tmp_path / "file"))
    assert same(held, encoded(*splits(), CHARS, cache=False))
    assert "data.cache: " in (said := capsys.readouterr().err)
    assert "the text stays in memory" in said


def test_the_users_directory_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    encoded(*splits(), CHARS)
    monkeypatch.setenv("GPTLADDER_CACHE", str(tmp_path / "own"))
    encoded(*splits(), CHARS)
    assert len(list((tmp_path / "xdg/gpt-ladder").iterdir())) == len(list((tmp_path / "own").iterdir())) == 1


def test_small_texts_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", len(CONTENT) + 1)
    encoded(*splits(), CHARS, cache=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_run_learns_the_same_from_a_mapped_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(CONTENT)
    few = ["model=bigram", "trainer.max_steps=5", "logger=none", "data=text", f"data.path={tmp_path}/text.txt"]
    mapped = trained(tmp_path / "a", *few, f"data.cache={tmp_path}/cache")
    held = trained(tmp_path / "b", *few, "data.cache=false")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert mapped["curve"] == held["curve"]
    assert mapped["config_hash"] == held["config_hash"]


def test_blocks_of_a_mapped_text_write_nothing_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(CONTENT)
    data = TextDataModule(
        path=str(tmp_path / "text.txt"), tokenizer=CharTokenizer.from_text, split=0.9, block_size=8, batch_size=4,
        stream="independent", estimate_batches=2, seed=1, cache=str(tmp_path / "cache"),
    )  # fmt: skip
    (path,) = (tmp_path / "cache").iterdir()
    before = path.read_bytes()
    x, _ = next(iter(data.train_blocks()))
    x.zero_()
    data.train_tokens.zero_()
    assert path.read_bytes() == before
