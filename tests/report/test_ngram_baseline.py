"""The n-gram baseline in the report."""

import csv
import json
import math
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
from gptladder.report.aggregate import Row, group_runs
from gptladder.report.charts import plot_ladder
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import ORDER, NGramBaseline, NGramLoss, compute_ngram_baseline
from gptladder.report.page import render_page
from helpers.configs import trained
from helpers.results import run

LABEL = "5-gram, windows of 8"
FEW = ("model=bigram", "trainer.max_steps=2", "~callbacks.samples", "~callbacks.attention_maps", "logger=none")


@pytest.fixture(scope="module")
def own_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a text and one run trained on it."""
    directory = tmp_path_factory.mktemp("own")
    text = directory / "text.txt"
    text.write_text("".join(f"{number} bottles of beer on the wall\n" for number in range(300)))
    trained(directory / "runs" / "bigram", *FEW, "data=text", f"data.path={text}")
    return directory


def rows(directory: Path) -> list[Row]:
    return group_runs(load_runs(directory))


def ngram_loss(text: Path, block_size: int | None = None) -> float:
    splits = open_corpus(text).split(0.9)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    return NGram(train, order=ORDER, vocab_size=tokenizer.vocab_size).loss(val, block_size=block_size)


def chart_baseline(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="baseline">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_baseline_is_the_loss_on_the_splits_of_the_runs(own_text: Path) -> None:
    baseline = compute_ngram_baseline(rows(own_text / "runs"))
    (loss,) = baseline.losses
    assert loss.loss == pytest.approx(ngram_loss(own_text / "text.txt", 8))
    assert (loss.label, loss.block_size) == (LABEL, 8)
    assert "4 characters of context" in loss.description
    assert loss.bits_per_char == pytest.approx(loss.loss / math.log(2))  # one byte per character
    assert f"its exact val loss is {ngram_loss(own_text / 'text.txt'):.4f}" in baseline.note


def test_the_baseline_is_in_the_table_the_chart_and_the_page(own_text: Path, tmp_path: Path) -> None:
    write_report(own_text / "runs", tmp_path)
    loss = ngram_loss(own_text / "text.txt", 8)
    page = (tmp_path / "report.html").read_text()
    for name in ("table.md", "table.tex", "report.html"):
        text = (tmp_path / name).read_text()
        assert LABEL in text
        assert f"{loss:.4f}" in text
    *_, last = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert last["rung"] == LABEL
    assert float(last["val_loss"]) == pytest.approx(loss)
    assert chart_baseline(page) == [{"label": LABEL, "loss": pytest.approx(loss)}]
    run_rows = rows(own_text / "runs")
    (axes,) = plot_ladder(run_rows, compute_ngram_baseline(run_rows)).axes
    assert f"{LABEL}  {loss:.3f}" in [text.get_text() for text in axes.texts]
    bottom, top = axes.get_ylim()
    assert bottom < loss < top


@pytest.mark.parametrize("change", ["gone", "other"])
def test_without_the_text_the_report_says_so_and_has_no_baseline(change: str, own_text: Path, tmp_path: Path) -> None:
    text = own_text / "text.txt"
    content = text.read_text()
    text.unlink()
    try:
        if change == "other":
            text.write_text(content.replace("beer", "wine"))
        write_report(own_text / "runs", tmp_path)
    finally:
        text.write_text(content)
    assert f"No n-gram baseline: data.path={text}" in (tmp_path / "table.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "No n-gram baseline" in page
    assert chart_baseline(page) == []


@pytest.mark.parametrize("differs", ["text", "split", "tokenizer"])
def test_runs_on_different_data_have_no_baseline(differs: str, own_text: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(own_text / "runs" / "bigram", tmp_path / name)
    result, config = tmp_path / "two" / "result.json", tmp_path / "two" / ".hydra" / "config.yaml"
    (tmp_path / "one" / ".hydra" / "config.yaml").write_text("data: {split: 0.9}\ntokenizer: {_target_: char}\n")
    record = json.loads(result.read_text()) | {"model": "embedding", "config_hash": "another"}
    if differs == "text":
        record["corpus_sha256"] = "another"
    result.write_text(json.dumps(record))
    split, tokenizer = 0.5 if differs == "split" else 0.9, "bpe" if differs == "tokenizer" else "char"
    config.write_text(f"data: {{split: {split}}}\ntokenizer: {{_target_: {tokenizer}}}\n")
    assert len(rows(tmp_path)) == 2
    baseline = compute_ngram_baseline(rows(tmp_path))
    assert baseline == NGramBaseline("No n-gram baseline: the runs differ in text, split or tokenizer.")


def test_a_large_text_is_not_counted(own_text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptladder.report.ngram_baseline.MAX_TOKENS", 1000)
    baseline = compute_ngram_baseline(rows(own_text / "runs"))
    assert not baseline.losses
    assert "scripts/ngram.py --run" in baseline.note


def test_runs_without_a_checkpoint_have_no_baseline(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    baseline = compute_ngram_baseline(rows(tmp_path))
    assert not baseline.losses
    assert "checkpoint" in baseline.note
    assert chart_baseline(render_page(rows(tmp_path), baseline, title="sweep")) == []


def test_note_and_label_are_escaped(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    label = "</script><script>alert(2)"
    nasty = NGramBaseline("<script>alert(1)</script>", (NGramLoss(label, "<script>alert(3)", 8, 1.5, 2.0),))
    page = render_page(rows(tmp_path), nasty, title="sweep")
    assert "<script>alert" not in page
    assert chart_baseline(page) == [{"label": label, "loss": 1.5}]
