"""A file stays complete, old or new, if a kill or a full disk interrupts its writing."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gptladder.report import FILES
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.system.files import atomic_write, remove_stale_files
from gptladder.training.checkpoint_io import AtomicCheckpointIO
from helpers.configs import trained
from helpers.processes import Warm, content, forkserver, save_without_end
from helpers.runs import assert_same_run, contents, killed_at, read, small

ELSEWHERE = Path("/dev/shm")


@pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="there is no other file system here")
def test_a_checkpoint_loads_after_each_of_30_kills_in_the_middle_of_saving(
    tmp_path: Path, tried: Callable[..., None]
) -> None:
    assert ELSEWHERE.stat().st_dev != tmp_path.stat().st_dev
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(0), path)
    draws, n_incomplete = random.Random(7), 0
    for _ in range(30):
        process = forkserver.Process(target=save_without_end, args=(str(path), str(ELSEWHERE)))
        process.start()
        while not list(tmp_path.glob(".*.part")):  # until it saves
            assert process.is_alive()
        time.sleep(draws.uniform(0, 0.01))
        process.kill()
        process.join()
        saved = read_checkpoint(path)
        assert torch.equal(saved["state_dict"]["weights"], torch.full((300_000,), float(saved["gptladder"]["number"])))
        n_incomplete += len(list(tmp_path.glob(".*.part")))
        remove_stale_files(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
    assert n_incomplete > 5, "too few kills interrupted a save"
    tried(kills=30)


@pytest.mark.slow
@pytest.mark.skipif(not ELSEWHERE.is_dir(), reason="there is no other file system here")
def test_a_run_that_saves_at_every_step_survives_30_kills(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "trainer.max_steps=400", "trainer.val_check_interval=1", "logger=none")
    words = (*words, "~callbacks.samples", "~callbacks.attention_maps")
    whole, run = tmp_path / "whole", tmp_path / "run"
    undisturbed = Warm("train.py", *words, f"hydra.run.dir={whole}", cwd=tmp_path, TMPDIR=str(ELSEWHERE))
    draws, last = random.Random(7), run / "checkpoints" / "last.ckpt"
    again = f"hydra.run.dir={run}"
    for _ in range(30):
        running = Warm("train.py", *(words if "hydra" in again else ()), again, cwd=tmp_path, TMPDIR=str(ELSEWHERE))
        before = last.stat().st_mtime_ns if last.exists() else 0
        assert running.wait_until(lambda before=before: last.exists() and last.stat().st_mtime_ns != before)
        time.sleep(draws.uniform(0, 0.2))
        running.signal(signal.SIGKILL)
        assert running.end() == -9, "it ended before it could be killed"
        read_checkpoint(last)
        tried(kills=1)
        again = f"resume={run}"
    ended = Warm("train.py", again, cwd=tmp_path)
    assert (undisturbed.end(600), ended.end(600)) == (0, 0), ended.stderr
    assert torch.equal(
        *(read_checkpoint(path / "checkpoints/last.ckpt")["TextDataModule"]["global"] for path in (run, whole))
    )
    assert read(run)["curve"] == read(whole)["curve"]
    assert not list(run.rglob("*.part"))


@pytest.fixture
def half(tmp_path: Path) -> tuple[Path, Path]:
    """A run that was killed halfway, and a finished run with the same config."""
    words = small(tmp_path)
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = Warm("train.py", *words, f"hydra.run.dir={whole}", cwd=tmp_path)
    assert done.end() == 0, done.stderr
    with killed_at(6):
        trained(run, *words)
    shutil.copytree(whole / ".hydra", run / ".hydra", dirs_exist_ok=True)  # as the command writes it
    return run, whole


@pytest.mark.parametrize("limit", ["result", "checkpoint"])
def test_a_full_disk_leaves_the_old_files_and_the_run_resumes_when_there_is_space(
    limit: str, half: tuple[Path, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    run, whole = half
    last = run / "checkpoints" / "last.ckpt"
    before, recorded = last.read_bytes(), (run / "result.json").read_bytes()
    largest = {"result": 400, "checkpoint": 300_000}[limit]
    assert len(recorded) > 400
    assert len(before) > 300_000
    full = Warm("train.py", f"resume={run}", cwd=tmp_path, file_size=largest)
    assert full.end() not in (0, -9), full.stdout
    if limit == "checkpoint":
        (line,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
        assert "free some space" in line
        assert "Traceback" not in full.stderr
    assert last.read_bytes() == before
    assert not list(run.rglob("*.part"))
    read(run)
    again = Warm("train.py", f"resume={run}", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert_same_run(run, whole)
    tried(full_disks=1)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_fills_up_during_a_run_damages_no_checkpoint(
    tiny_disk: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = small(tmp_path)
    run = tiny_disk / "run"
    with killed_at(6):
        trained(run, *words)
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    (tiny_disk / "filler").write_bytes(bytes(os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_bsize - 50_000))
    full = Warm("train.py", *words, f"hydra.run.dir={tiny_disk}/other", cwd=tmp_path)
    assert full.end() not in (0, -9)
    assert "error: no space left on device" in full.stderr
    with pytest.raises(OSError, match="No space left"):
        trained(run, *words)
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before
    (tiny_disk / "filler").unlink()
    shutil.rmtree(tiny_disk / "other", ignore_errors=True)
    trained(run, *words)
    trained(tmp_path / "whole", *words)
    assert_same_run(run, tmp_path / "whole")
    tried(full_disks=2)


def test_a_full_disk_damages_no_report(finished_run: Path, tmp_path: Path, tried: Callable[..., None]) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished_run, runs / "multihead")
    assert Warm("scripts/report.py", str(runs), cwd=tmp_path).end() == 0
    before = contents(runs)
    assert {Path(name).name for name in before} >= set(FILES)
    full = Warm("scripts/report.py", str(runs), cwd=tmp_path, file_size=2000)
    assert full.end() == 2
    assert len(full.stderr.splitlines()) == 1, full.stderr
    assert contents(runs) == before
    tried(full_disks=1)


def test_a_write_to_a_full_disk_leaves_the_old_file(tmp_path: Path, tried: Callable[..., None]) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    writer = multiprocessing.get_context("fork").Process(target=_write_with_little_space, args=(path,))
    writer.start()
    writer.join()
    assert writer.exitcode == 27
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    tried(full_disks=1)


def _write_with_little_space(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        with atomic_write(path) as file:
            file.write(b"new" * 1000)
    except OSError as error:
        os._exit(error.errno or 0)


def test_temporary_files_of_a_running_process_are_not_removed(tmp_path: Path) -> None:
    (tmp_path / f".last.ckpt.{os.getppid()}.part").write_text("half")
    (tmp_path / f".last.ckpt.{os.getpid()}.part").write_text("of an earlier run in this process")
    remove_stale_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".last.ckpt.{os.getppid()}.part"]
