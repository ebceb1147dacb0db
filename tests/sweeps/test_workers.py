"""Jobs in other processes: their progress is shown, and they end with the process that started them."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from rich.text import Text

from gptladder.runs.run import Run
from gptladder.runs.train_log import REPORTED
from gptladder.sweeps.jobs import Job
from gptladder.sweeps.progress import show_progress
from helpers.configs import command
from helpers.processes import Cold
from helpers.sweeps import results

# A worker: it saves on SIGTERM, as a training does, and then waits for its next job, as loky's do.
WORKER = """
import os, signal, time
from pathlib import Path
from gptladder.sweeps.workers import end_with_parent

def save(*_):
    Path("saved").touch()
    raise SystemExit(143)

signal.signal(signal.SIGTERM, save)
try:
    with end_with_parent(os.getppid()):
        Path("worker").write_text(str(os.getpid()))
        time.sleep(60)
except SystemExit:
    pass
time.sleep(60)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def eventually(condition: Any, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_worker_whose_parent_is_killed_saves_and_ends(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, WORKER], cwd=tmp_path)
    note = tmp_path / "worker"
    assert eventually(lambda: note.exists() and note.read_text())
    worker = int(note.read_text())
    assert is_alive(worker)
    parent.kill()
    parent.wait()
    assert eventually(lambda: not is_alive(worker), seconds=10)
    assert (tmp_path / "saved").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_the_workers_of_a_killed_sweep_save_and_end(tmp_path: Path) -> None:
    words = ("-m", "model=bigram", "seed=1,2", "trainer.max_steps=10000000", "sweep=s", "launcher=joblib")
    sweep = Cold("train.py", *words, "hydra.launcher.n_jobs=2", cwd=tmp_path)

    def trained() -> bool:
        found = results(tmp_path / "outputs" / "s").values()
        return [bool(result.get("step")) for result in found] == [True, True]

    assert sweep.wait_until(trained)
    workers = [process.pid for process in psutil.Process(sweep.process.pid).children(recursive=True)]
    assert len(workers) >= 2
    sweep.signal(signal.SIGKILL)
    sweep.end()
    assert eventually(lambda: not any(map(is_alive, workers)))
    for name, result in results(tmp_path / "outputs" / "s").items():
        assert result["status"] == "interrupted"
        assert (tmp_path / "outputs" / "s" / name / "checkpoints" / "last.ckpt").exists()


def job(directory: Path, number: int) -> Job:
    config = SimpleNamespace(trainer=SimpleNamespace(max_steps=100))
    path = directory / str(number)
    path.mkdir(parents=True)
    Run(path).write(status="pending")
    return Job(number, "bigram", number, [], path, cast(Any, config), {}, None)


def line(result: dict[str, Any], label: str) -> Text:
    return Text(f"{label} ended at {result['step']}")


def test_a_line_per_job_says_which_job_it_is_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(tmp_path, number) for number in range(4)]
    with show_progress(jobs, ["a", "b long", "c", "d"], line):
        assert os.environ[REPORTED]
        Run(jobs[1].directory).write(status="finished", step=100)
        Run(jobs[2].directory).write(status="failed", error="Traceback\nValueError: [bold] too hot")
        Run(jobs[3].directory).write(status="running", step=50)
    assert REPORTED not in os.environ
    assert capsys.readouterr().out.splitlines() == [
        "4 jobs, a line for each that ends",
        "b long ended at 100",
        "c        FAILED: ValueError: [bold] too hot",
    ]


def test_the_line_of_a_sweep_counts_jobs_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("gptladder.sweeps.progress.POLL_SECONDS", 0.05)
    jobs = [job(tmp_path, number) for number in range(3)]
    Run(jobs[2].directory).write(step=60)  # which is resumed
    with show_progress(jobs, ["a", "b", "c"], line):
        for step in (0, 40):
            Run(jobs[2].directory).write(status="running", step=60 + step // 2)
            Run(jobs[0].directory).write(status="running", step=step)
            time.sleep(0.5)
        Run(jobs[0].directory).write(status="finished", step=100)
        time.sleep(0.5)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert "0/3 jobs" in drawn
    assert "1/3 jobs" in drawn
    assert "60/300 steps" in drawn
    assert "120/300 steps, " in drawn
    assert " steps/s, " in drawn
    assert " s left" in drawn
    assert "a, c" in drawn


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_jobs_of_joblib_print_one_line_each_and_the_rest_is_in_their_logs(tmp_path: Path) -> None:
    if find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        pytest.skip("launcher=joblib needs its plugin")
    short = ("trainer.max_steps=10", "trainer.val_check_interval=5")
    done = command("train.py", "-m", "model=bigram,embedding", *short, "sweep=s", "launcher=joblib", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, *lines = done.stdout.splitlines()
    assert first == "2 jobs, a line for each that ends"
    assert sorted(text.split("   train")[0] for text in lines[:2]) == ["bigram   ", "embedding"]
    assert lines[2].startswith("rung")
    for log in (tmp_path / "outputs" / "s").glob("*/train.log"):
        assert "seed 1337   train" in log.read_text()
