"""Claims about the line in the report that counting alone draws."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from gptladder.data.text import open_corpus
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer
from gptladder.evaluation.ngram import NGram
from gptladder.report import write_report
from gptladder.report.charts import ladder
from gptladder.report.collect import collect
from gptladder.report.counting import ORDER, Yardstick, yardstick
from gptladder.report.page import html
from gptladder.report.rows import Row, arranged
from helpers.configs import trained
from helpers.results import run

LABEL = "5-gram counts, 4 characters of context"
FEW = ("model=bigram", "trainer.max_steps=2", "~callbacks.samples", "~callbacks.attention_maps", "logger=none")


@pytest.fixture(scope="module")
def own_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of one run on a text of its own, which lies beside it."""
    directory = tmp_path_factory.mktemp("own")
    text = directory / "text.txt"
    text.write_text("".join(f"{number} bottles of beer on the wall\n" for number in range(300)))
    trained(directory / "runs" / "bigram", *FEW, "data=text", f"data.path={text}")
    return directory


def rows(directory: Path) -> list[Row]:
    return arranged(collect(directory))


def counted(text: Path, block_size: int | None = None) -> float:
    splits = open_corpus(text).split(0.9)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    return NGram(train, order=ORDER, vocab_size=tokenizer.vocab_size).loss(val, block_size=block_size)


def drawn(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="yardstick">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_line_is_what_counting_the_runs_own_splits_comes_to(own_text: Path) -> None:
    line = yardstick(rows(own_text / "runs"))
    assert line.loss == pytest.approx(counted(own_text / "text.txt"))
    assert line.label == LABEL
    assert f"{counted(own_text / 'text.txt', 8):.4f} in blocks of 8" in line.note


def test_the_line_is_in_the_table_the_picture_and_the_page(own_text: Path, tmp_path: Path) -> None:
    write_report(own_text / "runs", tmp_path)
    loss = counted(own_text / "text.txt")
    page = (tmp_path / "report.html").read_text()
    assert f"exact val loss of {loss:.4f}" in (tmp_path / "table.md").read_text().splitlines()[-1]
    assert f"exact val loss of {loss:.4f}" in page
    assert drawn(page) == {"label": LABEL, "loss": pytest.approx(loss)}
    there = rows(own_text / "runs")
    (axes,) = ladder(there, yardstick(there)).axes
    assert f"{LABEL}  {loss:.3f}" in [text.get_text() for text in axes.texts]
    bottom, top = axes.get_ylim()
    assert bottom < loss < top


@pytest.mark.parametrize("change", ["gone", "other"])
def test_without_its_text_a_report_says_so_and_draws_no_line(change: str, own_text: Path, tmp_path: Path) -> None:
    text = own_text / "text.txt"
    kept = text.read_text()
    text.unlink()
    try:
        if change == "other":
            text.write_text(kept.replace("beer", "wine"))
        write_report(own_text / "runs", tmp_path)
    finally:
        text.write_text(kept)
    assert f"no counts to compare with (data.path={text}" in (tmp_path / "table.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "no counts to compare with" in page
    assert drawn(page) is None


@pytest.mark.parametrize("differs", ["text", "split", "tokenizer"])
def test_runs_that_cannot_be_held_against_the_same_counts_have_no_line(
    differs: str, own_text: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(own_text / "runs" / "bigram", tmp_path / name)
    result, config = tmp_path / "two" / "result.json", tmp_path / "two" / ".hydra" / "config.yaml"
    (tmp_path / "two" / ".hydra").mkdir()
    (tmp_path / "one" / ".hydra").mkdir()
    (tmp_path / "one" / ".hydra" / "config.yaml").write_text("data: {split: 0.9}\ntokenizer: {_target_: char}\n")
    record = json.loads(result.read_text()) | {"model": "embedding", "config_hash": "another"}
    if differs == "text":
        record["corpus_sha256"] = "another"
    result.write_text(json.dumps(record))
    split, tokenizer = 0.5 if differs == "split" else 0.9, "bpe" if differs == "tokenizer" else "char"
    config.write_text(f"data: {{split: {split}}}\ntokenizer: {{_target_: {tokenizer}}}\n")
    assert len(rows(tmp_path)) == 2
    line = yardstick(rows(tmp_path))
    assert line == Yardstick(
        "Without a network: no counts to compare with (the runs differ in text, split or tokenizer)."
    )


def test_a_text_that_would_take_long_to_count_is_left_to_the_command(
    own_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptladder.report.counting.MOST", 1000)
    line = yardstick(rows(own_text / "runs"))
    assert line.loss is None
    assert "scripts/ngram.py --run" in line.note


def test_runs_without_a_checkpoint_have_no_line(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    line = yardstick(rows(tmp_path))
    assert line.loss is None
    assert "checkpoint" in line.note
    assert drawn(html(rows(tmp_path), title="sweep", yardstick=line)) is None


def test_what_the_note_quotes_becomes_no_markup(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    nasty = Yardstick("<script>alert(1)</script>", "</script><script>alert(2)", 1.5)
    page = html(rows(tmp_path), title="sweep", yardstick=nasty)
    assert "<script>alert" not in page
    assert drawn(page) == {"label": nasty.label, "loss": 1.5}
