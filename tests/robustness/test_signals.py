"""SIGINT and SIGTERM: a run or a sweep saves a checkpoint, records its status, and resumes with the same bits."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.optim import AdamW

from gptladder.fast.adamw import FusedAdamWStep
from gptladder.runs.run import Run
from gptladder.system.signals import exit_on_signals
from gptladder.training.callbacks.graceful_stop import GracefulStop
from helpers.configs import trained
from helpers.marks import slow
from helpers.processes import Cold, Warm
from helpers.runs import assert_same_run, bits, read, same_bits, small
from helpers.sweeps import results, table


def send_before_step(patch: pytest.MonkeyPatch, step: int, *numbers: signal.Signals) -> list[int]:
    """Let the process receive signals just before it takes a step; returns a list that grows with every step."""
    taken: list[int] = []
    step_adamw = AdamW.step

    def signaled_step(self: AdamW, *arguments: Any, **options: Any) -> Any:
        taken.append(len(taken) + 1)
        if len(taken) == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return step_adamw(self, *arguments, **options)

    patch.setattr(AdamW, "step", signaled_step)
    patch.setattr(FusedAdamWStep, "supports", lambda optimizer: False)
    return taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [7, 8, *slow([2, 4, 10])])
def test_a_signal_in_any_step_saves_a_checkpoint_that_resumes_with_the_same_bits(
    step: int, number: signal.Signals, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)  # Lightning sees the steps with an even number; every fourth one has an evaluation
    uninterrupted, run = tmp_path / "uninterrupted", tmp_path / "run"
    trained(uninterrupted, *words)
    with pytest.MonkeyPatch.context() as patch:
        send_before_step(patch, step, number)
        with pytest.raises(SystemExit) as ended, exit_on_signals():
            trained(run, *words)
    assert ended.value.code == 128 + number
    assert read(run)["status"] == "interrupted"
    assert bits(run)["/global_step"] == {2: 2, 4: 4, 7: 8, 8: 8, 10: 10}[step]
    trained(run, *words)
    assert_same_run(run, uninterrupted)
    tried(signals=1)


@pytest.mark.parametrize("evaluates_every", [1, 2, 3])
def test_a_signal_stops_a_run_at_any_evaluation_interval(
    evaluates_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), f"trainer.val_check_interval={evaluates_every}", "trainer.max_steps=30", "logger=none")
    send_before_step(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(SystemExit), exit_on_signals():
        trained(tmp_path / "run", *words)
    assert bits(tmp_path / "run")["/global_step"] <= 2 + 2 * evaluates_every
    tried(signals=1)


def test_a_second_signal_exits_immediately_and_without_a_checkpoint(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = small(tmp_path)
    uninterrupted, run = tmp_path / "uninterrupted", tmp_path / "run"
    trained(uninterrupted, *words)
    with pytest.MonkeyPatch.context() as patch:
        taken = send_before_step(patch, 6, signal.SIGINT, signal.SIGINT)
        with pytest.raises(SystemExit) as ended, exit_on_signals():
            trained(run, *words)
    assert ended.value.code == 130
    assert len(taken) == 6
    assert read(run)["status"] == "interrupted"
    assert bits(run)["/global_step"] == 4
    trained(run, *words)
    assert_same_run(run, uninterrupted)
    tried(signals=2)


def test_a_second_sigint_exits_with_130(tmp_path: Path, tried: Callable[..., None]) -> None:
    run = tmp_path / "run"
    words = (*small(tmp_path), "trainer.max_steps=1000000", "trainer.val_check_interval=1000")
    running = Warm("train.py", *words, f"hydra.run.dir={run}", cwd=tmp_path)
    assert running.wait_until(lambda: (log := run / "metrics.csv").exists() and "lr" in log.read_text())
    running.signal(signal.SIGINT)
    running.signal(signal.SIGINT)
    assert running.end() == 130
    (line,) = running.stderr.splitlines()
    assert line.startswith("stopped ")
    assert read(run)["status"] == "interrupted"
    tried(signals=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_says_at_which_step_and_how_to_resume_it(
    number: signal.Signals, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), "trainer.max_steps=1000000", "trainer.val_check_interval=1000000")
    running = Warm("train.py", *words, "hydra.run.dir='a run'", cwd=tmp_path)
    run = tmp_path / "a run"
    assert running.wait_until(lambda: (log := run / "metrics.csv").exists() and "lr" in log.read_text())
    running.signal(number)
    assert running.end() == 128 + number
    (line,) = running.stderr.splitlines()
    assert line == f"stopped at step {bits(run)['/global_step']:,}; resume with: python train.py 'resume=a run'"
    assert (run / "train.log").read_text().splitlines()[-1] == line
    tried(signals=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_run_started_leaves_no_directory(
    number: signal.Signals, tmp_path: Path, tried: Callable[..., None]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    running = Warm("train.py", "model=bigram", "hydra.run.dir=a/run", cwd=work)
    assert running.wait_until(lambda: (work / "a" / "run").exists())
    running.signal(number)
    assert running.end() == 128 + number
    assert running.stderr == "stopped before the first checkpoint: nothing was saved\n"
    assert list(work.iterdir()) == []
    tried(signals=1)


def sweep(directory: Path, launcher: str) -> tuple[str, ...]:
    """A sweep of short jobs: two, or with two workers three."""
    words = small(directory.parent)
    seeds = "seed=1,2,3" if launcher == "joblib" else "seed=1,2"
    lengths = ("trainer.max_steps=400", "trainer.val_check_interval=100", "sweep=s", seeds)
    jobs = ("hydra.launcher.n_jobs=2",) if launcher == "joblib" else ()
    return ("train.py", "-m", *words, *lengths, f"launcher={launcher}", *jobs)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_stopped_sweep_lists_unfinished_jobs_and_resumes_to_the_same_results(
    launcher: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    for directory in (uninterrupted, stopped):
        directory.mkdir()
    start = Warm if launcher == "basic" else Cold  # joblib starts processes
    first = start(*sweep(uninterrupted, launcher), cwd=uninterrupted)
    assert first.end(300) == 0, first.stderr
    running = start(*sweep(stopped, launcher), cwd=stopped)
    runs = stopped / "outputs" / "s"
    assert running.wait_until(lambda: list(runs.glob("*/checkpoints/last.ckpt")), 180), running.stderr
    running.signal(signal.SIGTERM)
    assert running.end() == 143, running.stderr
    statuses = {name: Run(runs / name).status for name in results(runs)}
    assert set(statuses.values()) <= {"interrupted", "pending"}
    assert "pending" in statuses.values() or launcher == "joblib"  # whose free worker may have started the last job
    assert "interrupted" in statuses.values()
    for name, status in statuses.items():
        assert f"{name}: {status}" in running.stderr
    assert (
        f"{len(statuses)} of {len(statuses)} jobs did not finish (run the same command again to resume)"
        in running.stderr
    )
    again = start(*sweep(stopped, launcher), cwd=stopped)
    assert again.end(300) == 0, again.stderr
    assert table(runs) == table(uninterrupted / "outputs" / "s")
    for name in results(runs):
        assert same_bits(bits(runs / name), bits(uninterrupted / "outputs" / "s" / name))
    tried(signals=1)


def test_a_signal_in_the_last_steps_of_a_job_stops_the_sweep(tmp_path: Path, tried: Callable[..., None]) -> None:
    callback = GracefulStop(checkpoint=str(tmp_path / "last.ckpt"))

    def job() -> None:
        callback.on_train_start(None, None)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        callback.teardown(None, None, "fit")  # type: ignore[arg-type]

    with pytest.raises(SystemExit) as ended, exit_on_signals():
        job()
    assert ended.value.code == 143
    tried(signals=1)
