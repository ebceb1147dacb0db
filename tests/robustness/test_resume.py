"""A run that is stopped at any step and resumed ends with the same bits as an uninterrupted one."""

import os
import shutil
import signal
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.data.datamodule import STREAMS
from gptladder.runs.run import Run
from gptladder.training.callbacks.result_writer import ResultWriter
from gptladder.training.loggers import ResumableCSVLogger, ResumableTensorBoardLogger
from helpers.configs import command, trained
from helpers.marks import slow
from helpers.processes import Warm
from helpers.runs import Killed, assert_same_run, bits, contents, killed_at, points, read, same_bits, small

MATRIX = [
    (f"trainer.accumulate_grad_batches={batches}", f"data.stream={stream}", f"hardware.precision={precision}")
    for batches in (1, 3)
    for stream in STREAMS
    for precision in ("32-true", "bf16-mixed")
]
COMBINED = MATRIX[-1]
# Steps in compiled loops: without autograd, but for those that Lightning sees, such as the first one after a resume.
COMPILED = ("model.dropout=0", "trainer.log_every_n_steps=4")

# Of every table of cases some are quick, such that each setting is in one of them.
QUICK = {MATRIX[0], MATRIX[3], MATRIX[8], COMBINED}


def slow_unless(quick: bool, *values: Any) -> Any:
    return pytest.param(*values, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("settings", [COMPILED, *(slow_unless(each in QUICK, each) for each in MATRIX)], ids=" ".join)
def test_a_run_killed_at_any_step_ends_with_the_bits_of_an_uninterrupted_one(
    settings: tuple[str, ...], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), *settings, "fast=true")
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    # Before there is a checkpoint, between two evaluations, twice after step 4, and before the last evaluation.
    for at in (2, 6, 2, 5):
        with killed_at(at):
            trained(run, *words)
        tried(kills=1)
    trained(run, *words)
    assert_same_run(run, whole)


@pytest.mark.parametrize(
    ("paths", "settings"),
    [
        slow_unless(quick == row, paths, settings)
        for quick, settings in enumerate((MATRIX[0], MATRIX[3], COMBINED))
        for row, paths in enumerate((("false",), ("true", "false"), ("false", "true")))
    ],
    ids=" then ".join,
)
def test_a_run_resumed_on_any_path_ends_with_the_same_bits(
    settings: tuple[str, ...], paths: tuple[str, ...], tmp_path: Path, tried: Callable[..., None]
) -> None:
    # The context is too long for Numba's attention, which rounds differently.
    words = (*small(tmp_path), *settings, "model.block_size=17")
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    fast = cycle(paths)
    for at in (2, 6, 2, 5):
        with killed_at(at):
            trained(run, *words, f"fast={next(fast)}")
        tried(kills=1)
    trained(run, *words, f"fast={next(fast)}")
    assert_same_run(run, whole)


@pytest.mark.slow
def test_the_settings_of_the_matrix_give_different_bits(tmp_path: Path) -> None:
    words = small(tmp_path)
    others: list[dict[str, Any]] = []
    for settings in MATRIX:
        run = tmp_path / str(len(others))
        trained(run, *words, *settings)
        assert not any(same_bits(bits(run), other) for other in others)
        others.append(bits(run))


def test_a_run_killed_three_times_in_a_row_loses_nothing(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "scheduler=cosine", "scheduler.warmup_steps=3")
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    for at in (1, 5, 2):  # each counted from where the run resumed
        with killed_at(at):
            trained(run, *words)
    trained(run, *words)
    assert_same_run(run, whole)
    tried(kills=3)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (ResultWriter, "on_validation_end"),
        (ResumableCSVLogger, "log_metrics"),
        (ResumableTensorBoardLogger, "save"),
    ],
)
@pytest.mark.parametrize("fast", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_run_killed_while_it_writes_metrics_has_every_point_once(
    fast: str, owner: type, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), f"fast={fast}")
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


@pytest.mark.parametrize("at", [6, *slow([2])])
def test_a_run_that_was_moved_resumes_with_the_same_bits(at: int, tmp_path: Path, tried: Callable[..., None]) -> None:
    words = small(tmp_path)
    whole, run, moved = tmp_path / "whole", tmp_path / "run", tmp_path / "elsewhere" / "moved"
    trained(whole, *words)
    with killed_at(at):
        trained(run, *words)
    moved.parent.mkdir()
    run.rename(moved)
    trained(moved, *words)
    assert_same_run(moved, whole)
    states = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"].values()
    assert {state["dirpath"] for state in states if "dirpath" in state} == {str(moved / "checkpoints")}
    assert {path.name for path in (moved / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not run.exists()
    tried(kills=1)


def test_an_error_in_a_step_is_recorded_and_the_run_resumes_from_before_it(
    tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    trained(whole, *words)
    with killed_at(6, ValueError("an error in the optimizer")):
        trained(run, *words)
    assert read(run)["status"] == "failed"
    assert "an error in the optimizer" in read(run)["error"]
    trained(run, *words)
    assert_same_run(run, whole)
    tried(exceptions=1)


def test_resume_repairs_a_log_truncated_at_any_byte(tmp_path: Path, tried: Callable[..., None]) -> None:
    whole = "step,name,value\n4,val/loss,2.5\n6,lr,0.1\n"
    for length in range(len(whole) + 1):
        path = tmp_path / "metrics.csv"
        path.write_text(whole[:length])
        logger = ResumableCSVLogger(run_dir=str(tmp_path))
        logger.truncate_after(4)
        for step, name, value in ((4, "val/loss", 2.5), (6, "lr", 0.1)):
            if f"{step},{name}," not in (path.read_text() if path.exists() else ""):
                logger.log_metrics({name: value}, step)
        assert path.read_text() == whole
    tried(truncated_files=len(whole) + 1)


def test_resume_repairs_an_event_file_truncated_at_any_byte(tmp_path: Path, tried: Callable[..., None]) -> None:
    trained(tmp_path / "run", *small(tmp_path))
    (events,) = (tmp_path / "run").glob("events.*")
    whole = events.read_bytes()
    lengths = range(0, len(whole), max(1, len(whole) // 40))
    for length in lengths:
        events.write_bytes(whole[:length])
        ResumableTensorBoardLogger(run_dir=str(tmp_path / "run")).truncate_after(8)
        _, shown = points(tmp_path / "run")
        assert max(shown.values(), default=1) == 1
    tried(truncated_files=len(lengths))


WORDS = ("trainer.max_steps=150", "trainer.val_check_interval=50")


def stop(run: Path, number: signal.Signals, evaluations: int, *words: str) -> int:
    """Start a run in a process and send a signal after some evaluations; returns the exit code."""
    running = Warm("train.py", *words, f"hydra.run.dir={run}", cwd=run.parent)
    assert running.wait_until(lambda: len(read(run).get("curve", [])) >= evaluations), running.stderr
    running.signal(number)
    code = running.end()
    assert "Traceback" not in running.stderr
    return code


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command in a new interpreter."""
    directory = tmp_path_factory.mktemp("whole")
    done = command("train.py", *small(directory), *WORDS, *COMBINED, "hydra.run.dir=run", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "run"


@pytest.mark.xdist_group("resume")
@pytest.mark.parametrize(
    ("number", "evaluations", "code", "status"),
    [
        (signal.SIGTERM, 2, 143, "interrupted"),
        pytest.param(signal.SIGINT, 2, 130, "interrupted", marks=pytest.mark.slow),
        (signal.SIGKILL, 2, -9, "running"),
        (signal.SIGKILL, 1, -9, "running"),  # before there is a checkpoint
    ],
)
def test_a_process_stopped_by_a_signal_resumes_to_the_bits_of_an_uninterrupted_one(
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
def test_every_signal_in_every_setting_resumes_to_the_same_bits(
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


@pytest.mark.xdist_group("resume")
def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    before = contents(run)
    again = Warm("train.py", f"resume={run}", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert "is already finished" in again.stdout
    assert contents(run) == before


def test_resume_finishes_a_run_killed_after_its_last_checkpoint(
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


@pytest.mark.parametrize("status", ["finished", "interrupted"])
def test_a_run_is_trained_for_longer_with_the_same_optimizer_state(status: str, tmp_path: Path) -> None:
    words = (*small(tmp_path), "trainer.max_steps=8", "hydra.run.dir=run")  # the last step has an evaluation anyway
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert Warm("train.py", *words, cwd=tmp_path).end() == 0
    if status == "interrupted":
        (run / "result.json").write_text((run / "result.json").read_text().replace('"finished"', '"interrupted"'))
    longer = Warm("train.py", "resume=run", "trainer.max_steps=16", cwd=tmp_path)
    assert longer.end() == 0, longer.stderr
    assert "resuming at step 8" in longer.stdout
    assert Warm("train.py", *words, "trainer.max_steps=16", "hydra.run.dir=whole", cwd=tmp_path).end() == 0
    assert same_bits(bits(run), bits(whole))
    assert (read(run)["status"], read(run)["step"]) == ("finished", 16)
    assert read(run)["config_hash"] == read(whole)["config_hash"]
    assert "max_steps: 16" in (run / ".hydra" / "config.yaml").read_text()
    again = Warm("train.py", "resume=run", cwd=tmp_path)
    assert again.end() == 0
    assert "already finished" in again.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_steps=5"], "trainer.max_steps=5 must be an integer above the 150 steps that run has"),
        (["trainer.max_steps=many"], "trainer.max_steps=many must be an integer above"),
        (["trainer.max_steps=20", "seed=2"], "leave out seed=2"),
    ],
    ids=" ".join,
)
def test_a_run_is_not_made_shorter_or_another_one(
    words: list[str], message: str, uninterrupted: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    before = contents(run)
    refused = Warm("train.py", f"resume={run}", *words, cwd=tmp_path)
    assert refused.end() == 2
    (line,) = refused.stderr.splitlines()
    assert message in line
    assert contents(run) == before
