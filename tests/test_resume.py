"""Claims about runs that are stopped and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import ROOT, command

SHORT = ["model=dropout", "trainer.max_steps=120", "trainer.val_check_interval=50", "trainer.log_every_n_steps=10"]
DIFFERENT = {"command", "train_seconds", "tokens_per_second", "wall_seconds", "peak_memory_mb"}


def stopped(directory: Path, number: signal.Signals, evaluations: int) -> int:
    """Start a run, send a signal after so many evaluations, and give its exit code."""
    arguments = [sys.executable, str(ROOT / "train.py"), *SHORT, f"hydra.run.dir={directory}"]
    process = subprocess.Popen(arguments, cwd=directory.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(read(directory).get("curve", [])) >= evaluations:
            break
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    return process.returncode


def read(directory: Path) -> dict[str, Any]:
    path = directory / "result.json"
    return json.loads(path.read_text()) if path.exists() else {}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    states = checkpoint["optimizer_states"][0]["state"]
    moments = {f"{i}.{name}": value for i, state in states.items() for name, value in state.items()}
    return {**checkpoint["state_dict"], **moments}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole")
    done = command("train.py", *SHORT, "hydra.run.dir=run", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "run"


@pytest.mark.xdist_group("resume")
@pytest.mark.parametrize(
    ("number", "evaluations", "code", "status"),
    [
        (signal.SIGTERM, 2, 143, "interrupted"),
        (signal.SIGINT, 2, 130, "interrupted"),
        (signal.SIGKILL, 2, -9, "running"),
        (signal.SIGKILL, 1, -9, "running"),  # before there is a checkpoint
    ],
)
def test_resume_equals_the_uninterrupted_run(
    number: signal.Signals, evaluations: int, code: int, status: str, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert stopped(run, number, evaluations) == code
    assert read(run)["status"] == status
    assert read(run)["step"] < 120
    done = command("train.py", f"resume={os.path.relpath(run, tmp_path)}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here, there = read(run), read(uninterrupted)
    assert {key for key in there if here[key] != there[key]} <= DIFFERENT
    ours, theirs = weights(run), weights(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(torch.as_tensor(ours[key]), torch.as_tensor(theirs[key])) for key in theirs)
    assert (run / "metrics.csv").read_text() == (uninterrupted / "metrics.csv").read_text()


@pytest.mark.xdist_group("resume")
def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    before = (uninterrupted / "result.json").read_bytes()
    done = command("train.py", f"resume={uninterrupted}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    assert (uninterrupted / "result.json").read_bytes() == before
