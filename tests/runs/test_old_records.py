"""Runs recorded by version 0.1 still report, resume, generate and evaluate."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from gptladder.runs.checkpoint import load_trained
from gptladder.runs.configs import flatten
from gptladder.runs.old_records import RENAMED_KEYS, RENAMED_TARGETS
from gptladder.runs.run import Run
from helpers.configs import CONF, ROOT
from helpers.processes import Warm

RECORDED = ROOT / "tests" / "recorded" / "version-0.1"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    shutil.copytree(RECORDED, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_stopped_run_resumes_to_its_last_step(recorded: Path) -> None:
    before = Run.read(recorded / "stopped")["curve"]
    resumed = Warm("train.py", "resume=runs/stopped", cwd=recorded.parent)
    assert resumed.end() == 0, resumed.stderr
    result = Run.read(recorded / "stopped")
    assert (result["status"], result["step"]) == ("finished", 1000)
    assert result["curve"][: len(before)] == before
    losses = [point["val_loss"] for point in result["curve"]]
    assert all(later < earlier for earlier, later in pairwise(losses))
    steps = [line.split(",")[:2] for line in (recorded / "stopped" / "metrics.csv").read_text().splitlines()[1:]]
    repeated = {tuple(step) for step in steps if steps.count(step) > 1}
    assert not repeated


@pytest.mark.parametrize("run", ["finished", "modern", "stopped"])
def test_a_run_generates_and_is_evaluated(run: str, recorded: Path) -> None:
    generated = Warm("scripts/generate.py", "--run", f"runs/{run}", "--tokens", "30", cwd=recorded.parent)
    assert generated.end() == 0, generated.stderr
    assert len(generated.stdout) > 20
    evaluated = Warm("scripts/evaluate.py", "--run", f"runs/{run}", "--json", cwd=recorded.parent)
    assert evaluated.end() == 0, evaluated.stderr
    expected = Run.read(recorded / run)["val_loss"]
    assert json.loads(evaluated.stdout)["val_loss"] == pytest.approx(expected, abs=1e-5)


def test_the_report_shows_them(recorded: Path) -> None:
    report = Warm("scripts/report.py", "runs", cwd=recorded.parent)
    assert report.end() == 0, report.stderr
    table = (recorded / "table.md").read_text()
    assert "multihead" in table
    assert "speedrun" in table


def test_a_sweep_launched_again_skips_its_finished_jobs(tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "old_sweep"
    shutil.copytree(RECORDED / "sweep", sweep)
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("last.ckpt")}
    assert len(before) == 2
    words = (
        *("-m", "model=bigram", "model.block_size=8", "seed=1,2", "sweep=old_sweep", "trainer.max_steps=20"),
        *("trainer.val_check_interval=10", "callbacks.samples.n_tokens=5", "data.estimate_batches=2"),
    )
    launched = Warm("train.py", *words, cwd=tmp_path)
    assert launched.end() == 0, launched.stderr
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("last.ckpt")} == before


def test_every_weight_has_a_place(recorded: Path) -> None:
    for run in ("modern", "finished"):
        old = torch.load(recorded / run / "checkpoints" / "last.ckpt", weights_only=True)
        net = load_trained(recorded / run / "checkpoints" / "last.ckpt").net
        assert len(net.state_dict()) == len(old["state_dict"])


def test_no_renamed_key_or_target_is_used_any_more() -> None:
    for path in CONF.rglob("*.yaml"):
        config = yaml.safe_load(path.read_text()) or {}
        values = dict(flatten(config))
        assert not set(values) & set(RENAMED_KEYS), path
        assert not {str(value) for value in values.values()} & set(RENAMED_TARGETS), path
