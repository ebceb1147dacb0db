"""Sweeps, run as commands: no job is trained twice, no result is lost, every failure is listed."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from gptladder.sweeps.dry_run import seconds_side_by_side
from gptladder.system.units import format_duration
from helpers.configs import ROOT, command
from helpers.sweeps import results, table

SHORT = ["trainer.max_steps=10", "trainer.val_check_interval=5", "callbacks.samples.n_tokens=5"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four jobs, one of which names an unknown rung."""
    directory = tmp_path_factory.mktemp("mixed")
    rungs = "model=bigram,embedding,nonsense,multihead"
    done = command("train.py", "-m", rungs, *SHORT, "sweep=mixed", cwd=directory)
    assert done.returncode == 1, done.stderr
    assert "1 of 4 jobs did not finish" in done.stderr
    assert "model=nonsense does not exist" in done.stderr
    return directory / "outputs" / "mixed"


@pytest.mark.xdist_group("sweep")
def test_a_failed_job_is_in_the_table_and_the_others_finish(mixed: Path) -> None:
    statuses = {result["model"]: result["status"] for result in results(mixed).values()}
    assert statuses == {"bigram": "finished", "embedding": "finished", "nonsense": "failed", "multihead": "finished"}
    failed = next(result for result in results(mixed).values() if result["model"] == "nonsense")
    assert failed["error"].startswith("model=nonsense does not exist: there are average, bigram, ")
    assert "FAILED" in (mixed / "table.md").read_text()
    assert [row["rung"] for row in table(mixed)][4:] == ["5-gram, windows of 8"]
    assert len(table(mixed)) == 5


@pytest.mark.xdist_group("sweep")
def test_the_same_command_again_trains_no_finished_job(mixed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mixed.glob("*/checkpoints/*.ckpt")}
    rungs = "model=bigram,embedding,nonsense,multihead"
    done = command("train.py", "-m", rungs, *SHORT, "sweep=mixed", cwd=mixed.parents[1])
    assert done.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in mixed.glob("*/checkpoints/*.ckpt")} == before


@pytest.mark.xdist_group("sweep")
def test_a_finished_job_of_several_texts_is_not_trained_again(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("To be, or not to be. " * 20)
    words = ("-m", "seed=1", "data=text", "data.path=[a.txt,b.txt]", *SHORT, "logger=none")
    written = []
    for _ in range(2):
        done = command("train.py", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        written += [path.stat().st_mtime_ns for path in tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")]
    assert len(written) == 2
    assert len(set(written)) == 1


@pytest.mark.xdist_group("sweep")
def test_an_experiment_sweeps_without_m_and_its_lists_can_be_overridden(tmp_path: Path) -> None:
    done = command("train.py", "experiment=ladder", "model=bigram,average", "seed=1,2", *SHORT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ladder = tmp_path / "outputs" / "ladder"
    assert sorted(results(ladder)) == [
        f"{rung}-callbacks.samples.n_tokens5-seed{seed}-max_steps10-val_check_interval5"
        for rung in ("average", "bigram")
        for seed in (1, 2)
    ]
    for name in ("table.md", "table.csv", "table.tex", "curves.png", "ladder.png", "report.html"):
        assert (ladder / name).stat().st_size > 0
    again = command("train.py", "experiment=ladder", "model=bigram", "seed=1", *SHORT, "fresh=true", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(results(ladder)) == 4


@pytest.mark.xdist_group("sweep")
def test_a_dry_run_builds_every_job_and_trains_none(tmp_path: Path) -> None:
    planned = command("train.py", "experiment=off_ladder", "plan=true", "model.n_embd=30", cwd=tmp_path)
    assert planned.returncode == 1
    assert "9 jobs, nothing trained" in planned.stdout
    assert "8 of 9 jobs have an error" in planned.stderr
    assert "model.n_embd=30 is not divisible by model.n_head=4" in planned.stderr
    assert not list(tmp_path.glob("outputs/**/result.json"))


@pytest.mark.xdist_group("sweep")
def test_a_non_finite_loss_fails_the_run(tmp_path: Path) -> None:
    done = command("train.py", "-m", "model=multihead", "optimizer.lr=1e30", *SHORT, cwd=tmp_path)
    assert done.returncode == 1
    (result,) = results(tmp_path / "outputs" / "multirun").values()
    assert result["status"] == "failed"
    assert "FloatingPointError" in result["error"]
    assert "lower optimizer.lr" in done.stderr


@pytest.mark.xdist_group("sweep")
def test_a_finished_job_is_refused_if_its_config_changed_but_not_if_its_threads_did(tmp_path: Path) -> None:
    arguments = ["-m", "model=bigram", *SHORT]
    assert command("train.py", *arguments, cwd=tmp_path).returncode == 0
    (config,) = tmp_path.glob("outputs/multirun/*/.hydra/config.yaml")
    text = config.read_text()
    config.write_text(text.replace("threads: auto", "threads: 7"))
    assert command("train.py", *arguments, cwd=tmp_path).returncode == 0
    config.write_text(text.replace("lr: 0.01", "lr: 0.5"))
    refused = command("train.py", *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert "optimizer.lr was 0.5 and is 0.01: use fresh=true to train it again" in refused.stderr


def kill_after(arguments: list[str], directory: Path, seconds: float) -> None:
    """Start a sweep and kill it with all its workers after some seconds."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_sweep_killed_three_times_has_the_same_table_as_one_that_was_not(tmp_path: Path) -> None:
    arguments = ["experiment=ladder", "model=bigram,multihead,dropout", "trainer.max_steps=1500"]
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    for directory in (uninterrupted, killed):
        directory.mkdir()
    assert command("train.py", *arguments, cwd=uninterrupted).returncode == 0
    draws = random.Random(7)
    for _ in range(3):
        kill_after(arguments, killed, draws.uniform(7, 14))
    done = command("train.py", *arguments, cwd=killed)
    assert done.returncode == 0, done.stderr
    tables = [table(directory / "outputs" / "ladder") for directory in (uninterrupted, killed)]
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "plugin"),
    [
        ("basic", "hydra"),
        ("joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("submitit_local", "hydra_plugins.hydra_submitit_launcher"),
        ("ray", "hydra_plugins.hydra_ray_launcher"),
    ],
)
def test_every_launcher_runs_the_jobs(launcher: str, plugin: str, tmp_path: Path) -> None:
    if not _installed(plugin):
        pytest.skip(f"launcher={launcher} needs its extra: pip install -e '.[slurm,ray]'")
    words = ["-m", "model=bigram,embedding", f"launcher={launcher}", *SHORT]
    done = command("train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs").iterdir()
    statuses = [result["status"] for result in results(sweep).values()]
    assert statuses == ["finished", "finished"]


@pytest.mark.slow
def test_a_search_reports_its_best_trial(tmp_path: Path) -> None:
    if not _installed("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("experiment=search needs its extra: pip install -e '.[search]'")
    words = ("train.py", "experiment=search", *SHORT)
    done = command(*words, "hydra.sweeper.n_trials=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    search = tmp_path / "outputs" / "search"
    assert (search / "optimization_results.yaml").exists()
    assert "2 of 2 trials finished, the best first" in done.stdout
    first, second = results(search)
    assert re.fullmatch(r"layernorm-.*n_embd(32|48|64)-n_layer[1-5]-lr0\.0\d{1,5}-max_steps10-.*", first)
    shutil.rmtree(search / second)  # as if it had been killed before it began
    before = {path: path.stat().st_mtime_ns for path in (search / first).glob("checkpoints/*.ckpt")}
    again = command(*words, "hydra.sweeper.n_trials=3", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "3 of 3 trials finished" in again.stdout
    assert len(results(search)) == 3
    assert {first, second} < set(results(search))
    assert {path: path.stat().st_mtime_ns for path in (search / first).glob("checkpoints/*.ckpt")} == before
    other = command(*words, "optimizer.lr=interval(1e-3,1e-2)", cwd=tmp_path)
    assert other.returncode == 2
    assert "holds another search, with optimizer.lr: " in other.stderr


def _installed(plugin: str) -> bool:
    try:
        return find_spec(plugin) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (150, "2 min"), (3599, "1 h 0 min"), (11_100, "3 h 5 min"), (185_324, "2 days 3 h")],
)
def test_a_duration_is_written_as_people_say_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("times", "n_workers", "together"),
    [([1, 2, 3], 1, 6), ([1, 2, 3], 2, 3), ([2, 2, 2], 2, 4), ([1, 1, 9], 2, 9), ([5], 4, 5), ([], 2, 0)],
)
def test_jobs_side_by_side_take_as_long_as_their_busiest_worker(
    times: list[float], n_workers: int, together: float
) -> None:
    assert seconds_side_by_side(times, n_workers=n_workers) == together


def test_a_dry_run_prints_each_job_when_it_is_timed_and_all_numbers(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", "model=bigram,embedding", "seed=1,2", "plan=true"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "40"},  # a narrow terminal cuts no number
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines, alive = [], []
        for line in process.stdout:
            lines.append(line.split())
            alive.append(process.poll() is None)
    assert process.returncode == 0
    assert lines[:2] == [["4", "jobs,", "nothing", "trained"], ["parameters", "steps", "time", "job"]]
    assert all(alive[:3])
    assert [(*line[:2], *line[-3:]) for line in lines[2:6]] == [
        ("4,225", "2,999", rung, "seed", seed) for rung in ("bigram", "embedding") for seed in "12"
    ]
    assert lines[6][-4:] == ["total,", "one", "after", "another"]
