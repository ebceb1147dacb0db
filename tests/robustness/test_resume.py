"""A run that is stopped at any step and goes on ends with the same bits as one that was not."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptladder.data.datamodule import STREAMS
from gptladder.runs.run import Run
from gptladder.training.callbacks.record import Record
from gptladder.training.loggers import CSV, TensorBoard
from helpers.configs import command, trained
from helpers.processes import Warm
from helpers.runs import Killed, assert_same_run, bits, contents, killed_at, points, read, same_bits, small

MATRIX = [
    (f"trainer.accumulate_grad_batches={batches}", f"data.stream={stream}", f"hardware.precision={precision}")
    for batches in (1, 3)
    for stream in STREAMS
    for precision in ("32-true", "bf16-mixed")
]
COMBINED = MATRIX[-1]


@pytest.mark.parametrize("settings", MATRIX, ids=" ".join)
def test_a_run_killed_at_any_step_ends_with_the_bits_of_one_that_was_not(
    settings: tuple[str, ...], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), *settings)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    # Before there is a checkpoint, in the middle of a stretch, again there from step 4, and in the last one.
    for at in (2, 6, 2, 5):
        with killed_at(at):
            trained(run, *words)
        tried(kills=1)
    trained(run, *words)
    assert_same_run(run, whole)


def test_the_matrix_would_show_a_difference(tmp_path: Path) -> None:
    words = small(tmp_path)
    seen = []
    for settings in MATRIX:
        trained(tmp_path / str(len(seen)), *words, *settings)
        assert not any(same_bits(bits(tmp_path / str(len(seen))), other) for other in seen)
        seen.append(bits(tmp_path / str(len(seen))))


def test_a_run_killed_three_times_in_a_row_loses_nothing(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "scheduler=cosine", "scheduler.warmup_steps=3")
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    for at in (1, 5, 2):  # each counted from where the run went on
        with killed_at(at):
            trained(run, *words)
    trained(run, *words)
    assert_same_run(run, whole)
    tried(kills=3)


@pytest.mark.parametrize(
    ("owner", "method"), [(Record, "on_validation_end"), (CSV, "log_metrics"), (TensorBoard, "save")]
)
def test_a_run_killed_between_a_step_and_its_record_shows_every_point_once(
    owner: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    whole = tmp_path / "whole"
    trained(whole, *words)
    original: Any = getattr(owner, method)
    for call in (0, 1, 2, 3):
        calls = iter(range(100))

        def killed(self: Any, *arguments: Any, calls: Any = calls, call: int = call, **named: Any) -> Any:
            if next(calls) == call:
                raise Killed
            return original(self, *arguments, **named)

        run = tmp_path / f"call-{call}"
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, killed)
            try:
                trained(run, *words)
            except Killed:
                tried(kills=1)
        trained(run, *words)
        assert_same_run(run, whole)


def test_an_error_in_a_step_is_recorded_and_the_run_goes_on_from_before_it(
    tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    with killed_at(6, ValueError("a bug of ours")):
        trained(run, *words)
    assert read(run)["status"] == "failed"
    assert "a bug of ours" in read(run)["error"]
    trained(run, *words)
    assert_same_run(run, whole)
    tried(exceptions=1)


def test_a_log_cut_off_at_any_byte_is_gone_on_with(tmp_path: Path, tried: Callable[..., None]) -> None:
    whole = "step,name,value\n4,val/loss,2.5\n6,lr,0.1\n"
    for length in range(len(whole) + 1):
        path = tmp_path / "metrics.csv"
        path.write_text(whole[:length])
        logger = CSV(run_dir=str(tmp_path))
        logger.truncate_after(4)
        for step, name, value in ((4, "val/loss", 2.5), (6, "lr", 0.1)):
            if f"{step},{name}," not in (path.read_text() if path.exists() else ""):
                logger.log_metrics({name: value}, step)
        assert path.read_text() == whole
    tried(torn_files=len(whole) + 1)


def test_events_cut_off_at_any_byte_are_gone_on_with(tmp_path: Path, tried: Callable[..., None]) -> None:
    trained(tmp_path / "run", *small(tmp_path))
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    whole = events.read_bytes()
    lengths = range(0, len(whole), max(1, len(whole) // 40))
    for length in lengths:
        events.write_bytes(whole[:length])
        TensorBoard(run_dir=str(tmp_path / "run")).truncate_after(8)
        _, shown = points(tmp_path / "run")
        assert max(shown.values(), default=1) == 1
    tried(torn_files=len(lengths))


WORDS = ("trainer.max_steps=150", "trainer.val_check_interval=50")


def stop(run: Path, number: signal.Signals, evaluations: int, *words: str) -> int:
    """Start a run in a process, send a signal after so many evaluations; its exit code."""
    running = Warm("train.py", *words, f"hydra.run.dir={run}", cwd=run.parent)
    assert running.wait_until(lambda: len(read(run).get("curve", [])) >= evaluations), running.stderr
    running.signal(number)
    code = running.end()
    assert "Traceback" not in running.stderr
    return code


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the command as a user types it, in an interpreter that starts from nothing."""
    directory = tmp_path_factory.mktemp("whole")
    done = command("train.py", *small(directory), *WORDS, *COMBINED, "hydra.run.dir=run", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "run"


@pytest.mark.xdist_group("trust resume")
@pytest.mark.parametrize(
    ("number", "evaluations", "code", "status"),
    [
        (signal.SIGTERM, 2, 143, "interrupted"),
        (signal.SIGINT, 2, 130, "interrupted"),
        (signal.SIGKILL, 2, -9, "running"),
        (signal.SIGKILL, 1, -9, "running"),  # before there is a checkpoint
    ],
)
def test_a_process_stopped_by_a_signal_ends_with_the_bits_of_one_that_was_not(
    number: signal.Signals,
    evaluations: int,
    code: int,
    status: str,
    uninterrupted: Path,
    tmp_path: Path,
    tried: Callable[..., None],
) -> None:
    words = (*small(uninterrupted.parent), *WORDS, *COMBINED)
    run = tmp_path / "run"
    assert stop(run, number, evaluations, *words) == code
    assert read(run)["status"] == status
    assert read(run)["step"] < 150
    again = Warm("train.py", f"resume={os.path.relpath(run, tmp_path)}", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert_same_run(run, uninterrupted)
    tried(**{"kills" if number == signal.SIGKILL else "signals": 1})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("settings", MATRIX, ids=" ".join)
def test_every_signal_in_every_setting_leaves_the_bits_as_they_would_be(
    settings: tuple[str, ...], number: signal.Signals, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), *WORDS, *settings)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert Warm("train.py", *words, f"hydra.run.dir={whole}", cwd=tmp_path).end() == 0
    stop(run, number, 2, *words)
    again = Warm("train.py", f"resume={run}", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert_same_run(run, whole)
    tried(**{"kills" if number == signal.SIGKILL else "signals": 1})


@pytest.mark.xdist_group("trust resume")
def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    before = contents(run)
    again = Warm("train.py", f"resume={run}", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert "is finished" in again.stdout
    assert contents(run) == before


def test_a_run_killed_after_its_last_checkpoint_is_finished_by_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)

    def killed(self: Run, **outcome: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", killed)
        with pytest.raises(Killed):
            trained(run, *words)
    assert read(run)["step"] == read(whole)["step"]
    assert read(run)["status"] == "interrupted"
    trained(run, *words)
    assert_same_run(run, whole)
    tried(kills=1)
