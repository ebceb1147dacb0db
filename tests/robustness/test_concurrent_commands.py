"""Concurrent commands never write to the same run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gptladder.runs.run import Run
from helpers.processes import Warm
from helpers.runs import bits, same_bits, small
from helpers.sweeps import results, table


def test_concurrent_runs_get_different_directories(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "trainer.max_steps=1")
    runs = [Warm("train.py", *words, cwd=tmp_path) for _ in range(3)]
    assert [run.end() for run in runs] == [0, 0, 0], [run.stderr for run in runs]
    found = list(tmp_path.glob("outputs/*/*/result.json"))
    assert [json.loads(path.read_text())["status"] for path in found] == ["finished"] * 3
    tried(commands_at_once=3)


def test_of_two_commands_with_the_same_directory_one_is_refused(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "trainer.max_steps=1", "hydra.run.dir=run")
    runs = [Warm("train.py", *words, cwd=tmp_path) for _ in range(2)]
    assert sorted(run.end() for run in runs) == [0, 2]
    (line,) = [run.stderr for run in runs if run.end() == 2]
    assert len(line.splitlines()) == 1
    assert "hydra.run.dir=" in line
    assert Run.read(tmp_path / "run")["status"] == "finished"
    tried(commands_at_once=2)


def test_a_running_run_cannot_be_resumed(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "trainer.max_steps=100000", "trainer.val_check_interval=1000")
    first = Warm("train.py", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert first.wait_until(lambda: "config_hash" in Run.read(tmp_path / "run"))
    second = Warm("train.py", "resume=run", cwd=tmp_path)
    assert second.end() == 2, second.stderr
    (line,) = second.stderr.splitlines()
    assert "is being written by another process" in line
    assert first.process.is_alive()
    first.process.kill()
    first.end()
    tried(commands_at_once=2)


@pytest.mark.parametrize("fresh", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_two_concurrent_sweeps_in_one_directory_finish_every_job(
    fresh: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = ("train.py", "-m", *small(tmp_path), "seed=1,2,3", "sweep=s")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for directory in (alone, shared):
        directory.mkdir()
    first = Warm(*words, cwd=alone)
    assert first.end() == 0, first.stderr
    both = [Warm(*words, f"fresh={fresh}", cwd=shared) for _ in range(2)]
    for one in both:
        assert one.end() in (0, 1, 2), one.stderr
        assert "Traceback" not in one.stderr
    again = Warm(*words, cwd=shared)
    assert again.end() == 0, again.stderr
    actual, expected = shared / "outputs" / "s", alone / "outputs" / "s"
    assert {job["status"] for job in results(actual).values()} == {"finished"}
    assert table(actual) == table(expected)
    for name in results(expected):
        assert same_bits(bits(actual / name), bits(expected / name))
    assert not list(actual.rglob("*.part"))
    tried(commands_at_once=2)
