"""Data parallelism with two processes: the losses of one process, and both end together."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from gptladder.data.datamodule import STREAMS
from helpers.processes import Cold, Warm
from helpers.runs import assert_same_run, read, small

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trust processes")]
LONG = ("trainer.max_steps=100000", "trainer.val_check_interval=50")
TWO = "hardware=ddp_cpu"


def started(run: Path, *words: str) -> tuple[Cold, int]:
    """A run of two processes that has saved a checkpoint, and the id of the second process."""
    running = Cold("train.py", *words, TWO, f"hydra.run.dir={run}", cwd=run.parent)
    assert running.wait_until(lambda: (run / "checkpoints/last.ckpt").exists(), 180), running.stderr
    children = psutil.Process(running.process.pid).children(recursive=True)
    (second,) = [child.pid for child in children if "train.py" in " ".join(child.cmdline())]
    return running, second


def is_alive(pid: int) -> bool:
    """Whether a process is alive; an orphan may stay a zombie if no process waits for it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("accumulated", [1, 3])
def test_two_processes_have_the_losses_of_one(
    accumulated: int, stream: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    # Without dropout, because each process draws its own masks.
    settings = ("model=layernorm", f"data.stream={stream}", f"trainer.accumulate_grad_batches={accumulated}")
    words = (*small(tmp_path), *settings)
    one = Warm("train.py", *words, "hydra.run.dir=one", cwd=tmp_path)
    two = Cold("train.py", *words, TWO, "hydra.run.dir=two", cwd=tmp_path)
    assert (one.end(), two.end()) == (0, 0), one.stderr + two.stderr
    single, parallel = read(tmp_path / "one"), read(tmp_path / "two")
    assert len(single["curve"]) == 4
    for expected, point in zip(single["curve"], parallel["curve"], strict=True):
        assert point == pytest.approx(expected, abs=2e-5)
    assert parallel["val_loss"] == pytest.approx(single["val_loss"], abs=1e-5)
    tried(runs_of_two_processes=1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_with_an_error(rank: int, tmp_path: Path, tried: Callable[..., None]) -> None:
    running, second = started(tmp_path / "run", *small(tmp_path), *LONG)
    os.kill((running.process.pid, second)[rank], signal.SIGKILL)
    assert running.end(90) not in (0,)
    deadline = time.monotonic() + 90
    while is_alive(second) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(second), "the other process hangs"
    if rank == 1:
        assert read(tmp_path / "run")["status"] == "failed"
    tried(kills=1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_both_and_they_resume_with_the_same_bits(
    rank: int, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), "model=layernorm", "trainer.max_steps=400", "trainer.val_check_interval=100")
    uninterrupted = Cold("train.py", *words, TWO, "hydra.run.dir=uninterrupted", cwd=tmp_path)
    assert uninterrupted.end() == 0, uninterrupted.stderr
    running, second = started(tmp_path / "run", *words)
    os.kill((running.process.pid, second)[rank], signal.SIGTERM)
    assert running.end() == 143, running.stderr
    assert read(tmp_path / "run")["status"] == "interrupted"
    again = Cold("train.py", "resume=run", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert_same_run(tmp_path / "run", tmp_path / "uninterrupted")
    tried(signals=1)
