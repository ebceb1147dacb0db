"""Claims about collecting: every run once, from wherever it was copied, and nothing that is no run."""

import json
from pathlib import Path
from typing import Any

import pytest

from gptladder.report import write_report
from gptladder.report.collect import Reading, collect


def told(path: Path, *overrides: str, **result: Any) -> None:
    path.mkdir(parents=True)
    (path / "result.json").write_text(json.dumps({"status": "finished", "model": "bigram", "seed": 1, **result}))
    if overrides:
        (path / ".hydra").mkdir()
        (path / ".hydra/overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))


def only(directory: Path) -> Reading:
    (reading,) = collect(directory)
    return reading


def test_runs_are_found_at_any_depth_and_not_in_what_runs_write(tmp_path: Path) -> None:
    told(tmp_path / "a" / "b" / "c")
    told(tmp_path / "a" / "b" / "c" / "checkpoints" / "old", seed=2)
    assert only(tmp_path).seed == 1


def test_a_directory_can_be_a_run_itself(tmp_path: Path) -> None:
    told(tmp_path / "run")
    assert only(tmp_path / "run").rung == "bigram"


def test_a_job_that_waits_joins_the_row_of_those_that_ran(tmp_path: Path) -> None:
    told(tmp_path / "layernorm-lr0.01-seed2-max_steps50", status="pending", model="layernorm", seed=2, job=1)
    overrides = ("model=layernorm", "optimizer.lr=0.01", "seed=1", "trainer.max_steps=50")
    told(tmp_path / "elsewhere", *overrides, model="layernorm", seed=1, job=0)
    assert {reading.label for reading in collect(tmp_path)} == {"layernorm-lr0.01-max_steps50"}


def test_a_job_planned_here_and_finished_there_is_finished(tmp_path: Path) -> None:
    told(tmp_path / "here" / "bigram-seed1", status="pending", job=0)
    told(tmp_path / "there" / "bigram-seed1", "model=bigram", "seed=1", job=0, config_hash="abc")
    assert only(tmp_path).status == "finished"


def test_one_recipe_said_in_two_ways_is_one_run(tmp_path: Path) -> None:
    told(tmp_path / "one", "model=bigram", config_hash="abc")
    told(tmp_path / "two", "model=bigram", "optimizer.lr=0.01", config_hash="abc")
    assert only(tmp_path)


def test_one_recipe_on_two_kinds_of_hardware_is_two_runs(tmp_path: Path) -> None:
    told(tmp_path / "one", "model=bigram", "hardware=cpu", config_hash="abc")
    told(tmp_path / "two", "model=bigram", "hardware=gpu", config_hash="abc")
    assert len(collect(tmp_path)) == 2


def test_a_job_that_was_refused_keeps_its_row_whatever_its_seed(tmp_path: Path) -> None:
    told(tmp_path / "bigram-seedx", status="failed", seed="x", job=0, error="seed=x is not a number")
    told(tmp_path / "bigram-seed1", "model=bigram", "seed=1", job=1)
    (row,) = write_report(tmp_path)
    assert row.status == "finished, 1 of 2 FAILED"


@pytest.mark.parametrize(
    "result",
    [
        {"status": "excellent"},
        {"val_loss": "low"},
        {"curve": [{"step": None}]},
        {"curve": {"step": 0}},
        {"curve": [{"step": 0, "val_estimate": [2]}]},
        {"published": {"train": 2}},
        {"published": ["MATCH"]},
        {"versions": "all"},
        {"sample": ["text"]},
        {"seed": [1]},
        {"model": None},
    ],
)
def test_a_record_with_anything_of_another_kind_is_left_out_in_one_line(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(tmp_path / "whole")
    told(tmp_path / "broken", **{"seed": 2, **result})
    assert only(tmp_path).seed == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "broken") in line


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{", b"null"])
def test_a_file_that_is_no_record_is_left_out_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_bytes(content)
    assert collect(tmp_path) == []
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "- [", "text", "{a: ${b}", "a: 1"])
def test_a_config_that_cannot_be_read_leaves_the_run_in_the_report(content: str, tmp_path: Path) -> None:
    told(tmp_path / "run", "model=bigram", curve=[{"step": 0, "val_estimate": 2.0}])
    for name in ("config.yaml", "overrides.yaml"):
        (tmp_path / "run/.hydra" / name).write_text(content)
    (row,) = write_report(tmp_path)
    assert row.label == "bigram"
