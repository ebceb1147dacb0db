"""Whoever tells a run or a sweep to stop finds it saved, on record and easy to go on with."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptladder.runs.run import Run
from gptladder.system.signals import exit_on_signals
from gptladder.training.callbacks.stopping import Stopping
from gptladder.training.update import Update
from helpers.configs import trained
from helpers.processes import Cold, Warm
from helpers.runs import assert_same_run, bits, read, same_bits, small
from helpers.sweeps import results, table


@pytest.fixture
def leaving() -> Any:
    """The handlers of the command, which end it wherever it stands."""

    with exit_on_signals():
        yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 3, 6, 7, 9])
@pytest.mark.usefixtures("leaving")
def test_a_signal_in_any_step_ends_in_a_checkpoint_and_the_same_bits(
    at: int, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    # A stretch from one evaluation to the next has no other boundary than the evaluation.
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    steps, step = iter(range(100)), Update.__call__

    def signalled(self: Update, *arguments: Any) -> Any:
        if next(steps) == at:
            signal.raise_signal(number)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Update, "__call__", signalled)
        with pytest.raises(SystemExit) as ended:
            trained(run, *words)
    assert ended.value.code == 128 + number
    assert read(run)["status"] == "interrupted"
    assert bits(run)["/global_step"] == {1: 4, 3: 4, 6: 8, 7: 8, 9: 10}[at]
    trained(run, *words)
    assert_same_run(run, whole)
    tried(signals=1)


@pytest.mark.parametrize("evaluates_every", [1, 2, 3])
@pytest.mark.usefixtures("leaving")
def test_a_signal_stops_a_run_however_often_it_evaluates(
    evaluates_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), f"trainer.val_check_interval={evaluates_every}", "trainer.max_steps=30", "logger=none")
    step, original = [0], Stopping.on_train_batch_end

    def signalled(self: Stopping, *arguments: Any) -> None:
        step[0] += 1
        if step[0] == 2:
            signal.raise_signal(signal.SIGTERM)
        original(self, *arguments)

    monkeypatch.setattr(Stopping, "on_train_batch_end", signalled)
    with pytest.raises(SystemExit):
        trained(tmp_path / "run", *words)
    assert read(tmp_path / "run")["step"] <= 3 * evaluates_every
    tried(signals=1)


@pytest.mark.usefixtures("leaving")
def test_a_second_signal_ends_the_run_at_once_and_without_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    taken: list[int] = []
    step = Update.__call__

    def impatient(self: Update, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Update, "__call__", impatient)
        with pytest.raises(SystemExit) as ended:
            trained(run, *words)
    assert ended.value.code == 130
    assert len(taken) == 6
    assert read(run)["status"] == "interrupted"
    assert bits(run)["/global_step"] == 4
    trained(run, *words)
    assert_same_run(run, whole)
    tried(signals=2)


def test_a_process_told_twice_ends_with_130(tmp_path: Path, tried: Callable[..., None]) -> None:
    run = tmp_path / "run"
    words = (*small(tmp_path), "trainer.max_steps=1000000", "trainer.val_check_interval=1000")
    running = Warm("train.py", *words, f"hydra.run.dir={run}", cwd=tmp_path)
    assert running.wait_until(lambda: (log := run / "metrics.csv").exists() and "lr" in log.read_text())
    running.signal(signal.SIGINT)
    running.signal(signal.SIGINT)
    assert running.end() == 130
    assert "Traceback" not in running.stderr
    assert read(run)["status"] == "interrupted"
    tried(signals=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_run_began_leaves_no_directory(
    number: signal.Signals, tmp_path: Path, tried: Callable[..., None]
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    running = Warm("train.py", "model=bigram", "hydra.run.dir=a/run", cwd=work)
    assert running.wait_until(lambda: (work / "a" / "run").exists())
    running.signal(number)
    assert running.end() == 128 + number
    assert "Traceback" not in running.stderr
    assert list(work.iterdir()) == []
    tried(signals=1)


def sweep(directory: Path, launcher: str) -> tuple[str, ...]:
    """A sweep of three jobs of which each takes a moment."""
    words = small(directory.parent)
    lengths = ("trainer.max_steps=400", "trainer.val_check_interval=100", "sweep=s", "seed=1,2,3")
    jobs = ("hydra.launcher.n_jobs=2",) if launcher == "joblib" else ()
    return ("train.py", "-m", *words, *lengths, f"launcher={launcher}", *jobs)


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_sweep_told_to_stop_saves_names_what_is_left_and_ends_as_if_undisturbed(
    launcher: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for directory in (whole, cut):
        directory.mkdir()
    start = Warm if launcher == "basic" else Cold  # joblib has processes of its own
    undisturbed = start(*sweep(whole, launcher), cwd=whole)
    assert undisturbed.end(300) == 0, undisturbed.stderr
    running = start(*sweep(cut, launcher), cwd=cut)
    runs = cut / "outputs" / "s"
    assert running.wait_until(lambda: list(runs.glob("*/checkpoints/last.ckpt")), 180), running.stderr
    running.signal(signal.SIGTERM)
    assert running.end() == 143, running.stderr
    statuses = {name: Run(runs / name).status for name in results(runs)}
    assert set(statuses.values()) <= {"interrupted", "pending"}
    assert "pending" in statuses.values() or launcher == "joblib"  # whose free worker may have begun with the last
    assert "interrupted" in statuses.values()
    for name, status in statuses.items():
        assert f"{name}: {status}" in running.stderr
    assert "3 of 3 jobs did not finish (the same command again goes on with them)" in running.stderr
    again = start(*sweep(cut, launcher), cwd=cut)
    assert again.end(300) == 0, again.stderr
    assert table(runs) == table(whole / "outputs" / "s")
    for name in results(runs):
        assert same_bits(bits(runs / name), bits(whole / "outputs" / "s" / name))
    tried(signals=1)


@pytest.mark.usefixtures("leaving")
def test_a_signal_in_the_last_steps_of_a_job_stops_the_sweep_all_the_same(
    tmp_path: Path, tried: Callable[..., None]
) -> None:
    stopping = Stopping(checkpoint=str(tmp_path / "last.ckpt"))
    stopping.on_train_start(None, None)  # type: ignore[arg-type]
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        stopping.teardown(None, None, "fit")  # type: ignore[arg-type]
    assert ended.value.code == 143
    tried(signals=1)
