"""Loading runs: every run once, also if it was copied, and nothing that is not a run."""

import json
import os
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from gptladder.report import write_report
from gptladder.report.load_runs import RunRecord, load_runs


def write_result(path: Path, *overrides: str, **result: Any) -> None:
    path.mkdir(parents=True)
    (path / "result.json").write_text(json.dumps({"status": "finished", "model": "bigram", "seed": 1, **result}))
    if overrides:
        (path / ".hydra").mkdir()
        (path / ".hydra/overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))


def load_only_run(directory: Path) -> RunRecord:
    (record,) = load_runs(directory)
    return record


def test_runs_are_found_at_any_depth_but_not_inside_of_runs(tmp_path: Path) -> None:
    write_result(tmp_path / "a" / "b" / "c")
    write_result(tmp_path / "a" / "b" / "c" / "checkpoints" / "old", seed=2)
    assert load_only_run(tmp_path).seed == 1


def test_the_directory_may_itself_be_a_run(tmp_path: Path) -> None:
    write_result(tmp_path / "run")
    assert load_only_run(tmp_path / "run").rung == "bigram"


def test_a_pending_job_has_the_label_of_the_jobs_that_ran(tmp_path: Path) -> None:
    write_result(tmp_path / "layernorm-lr0.01-seed2-max_steps50", status="pending", model="layernorm", seed=2, job=1)
    overrides = ("model=layernorm", "optimizer.lr=0.01", "seed=1", "trainer.max_steps=50")
    write_result(tmp_path / "elsewhere", *overrides, model="layernorm", seed=1, job=0)
    assert {record.label for record in load_runs(tmp_path)} == {"layernorm-lr0.01-max_steps50"}


def test_a_job_pending_in_one_copy_and_finished_in_another_is_finished(tmp_path: Path) -> None:
    write_result(tmp_path / "here" / "bigram-seed1", status="pending", job=0)
    write_result(tmp_path / "there" / "bigram-seed1", "model=bigram", "seed=1", job=0, config_hash="abc")
    assert load_only_run(tmp_path).status == "finished"


def test_equal_config_hashes_are_one_run(tmp_path: Path) -> None:
    write_result(tmp_path / "one", "model=bigram", config_hash="abc")
    write_result(tmp_path / "two", "model=bigram", "optimizer.lr=0.01", config_hash="abc")
    assert load_only_run(tmp_path)


def test_the_same_config_on_other_hardware_is_another_run(tmp_path: Path) -> None:
    write_result(tmp_path / "one", "model=bigram", "hardware=cpu", config_hash="abc")
    write_result(tmp_path / "two", "model=bigram", "hardware=gpu", config_hash="abc")
    assert len(load_runs(tmp_path)) == 2


def test_a_job_with_an_invalid_seed_is_in_the_row_of_the_other_seeds(tmp_path: Path) -> None:
    write_result(tmp_path / "bigram-seedx", status="failed", seed="x", job=0, error="seed=x is not a number")
    write_result(tmp_path / "bigram-seed1", "model=bigram", "seed=1", job=1)
    (row,) = write_report(tmp_path).rows
    assert row.status == "finished, 1 of 2 FAILED"


@pytest.mark.parametrize(
    "result",
    [
        {"status": "excellent"},
        {"published": {"train": 1, "val": 1, "max_abs_diff": 0, "verdict": "PERFECT"}},
        {"step": 10**400},
        {"val_loss": 10**20},
        {"sample": "\ud800"},
        {"curve": [{"step": 0, "x": reduce(lambda inner, _: [inner], range(60), 0)}]},
        {"val_loss": "low"},
        {"curve": [{"step": None}]},
        {"curve": {"step": 0}},
        {"curve": [{"step": 0, "val_estimate": [2]}]},
        {"published": {"train": 2}},
        {"published": ["MATCH"]},
        {"versions": "all"},
        {"sample": ["text"]},
        {"description": 1},
        {"seed": [1]},
        {"model": None},
    ],
)
def test_a_result_with_a_value_of_the_wrong_type_is_skipped_with_one_line(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "valid")
    write_result(tmp_path / "broken", **{"seed": 2, **result})
    assert load_only_run(tmp_path).seed == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "broken") in line


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{", b"null"])
def test_a_file_that_is_not_a_result_is_skipped_with_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_bytes(content)
    assert load_runs(tmp_path) == []
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "- [", "text", "{a: ${b}", "a: 1"])
def test_a_run_with_an_unreadable_config_stays_in_the_report(content: str, tmp_path: Path) -> None:
    write_result(tmp_path / "run", "model=bigram", curve=[{"step": 0, "val_estimate": 2.0}])
    for name in ("config.yaml", "overrides.yaml"):
        (tmp_path / "run/.hydra" / name).write_text(content)
    (row,) = write_report(tmp_path).rows
    assert row.label == "bigram"


def test_links_to_runs_are_followed_and_loops_of_links_end(tmp_path: Path) -> None:
    write_result(tmp_path / "elsewhere" / "run")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "run" / "up").symlink_to(tmp_path)
    assert load_only_run(tmp_path / "here").rung == "bigram"


def test_a_record_that_is_no_regular_file_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_result(tmp_path / "good")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "result.json")
    (tmp_path / "directory" / "result.json").mkdir(parents=True)
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "result.json").symlink_to("/dev/zero")
    assert load_only_run(tmp_path).path.name == "good"
    assert capsys.readouterr().err.count("not a regular file") == 2


def test_a_large_record_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_result(tmp_path / "good")
    write_result(tmp_path / "large", sample="x" * 2_000_000)
    monkeypatch.setattr("gptladder.system.records.MAX_BYTES", 2**20)
    assert load_only_run(tmp_path).path.name == "good"
    assert "larger than 1 MB" in capsys.readouterr().err


def test_control_characters_of_a_record_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "good")
    write_result(tmp_path / "bad\x1b[31m", status="odd")
    assert load_only_run(tmp_path)
    assert "\x1b" not in capsys.readouterr().err
