"""``python train.py`` as a user runs it: exit codes, one line for a user error, and the directories that remain."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.configs import CONF, ROOT, RUNGS, command
from helpers.processes import Warm, warm_command

TEXT = "Once, upon = a 'time'.\r\n" * 60


def contents(directory: Path) -> dict[str, bytes | None]:
    """Every path under a directory, with the content of the files."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def error_line(*arguments: str, cwd: Path) -> str:
    """The line that a user error prints; nothing else is printed, and no file is left."""
    before = contents(cwd)
    done = warm_command("train.py", *arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert contents(cwd) == before
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model=multihed"], ["model=multihed", "did you mean multihead?"]),
        (["model=gpt", "model.n_hed=2"], ["model.n_hed", "did you mean model.n_head?"]),
        (["data.path='a,b"], ["data.path='a,b", "quote"]),
        (["model=bigram,gpt"], ["model=bigram,gpt", "-m"]),
        (["model.block_size=???"], ["model.block_size", "must be given"]),
        (["seed=abc"], ["seed=abc", "must be an integer"]),
        (["optimizer.lr=-1"], ["optimizer.lr=-1", "above 0"]),
        (["hydra.run.dir="], ["hydra.run.dir=", "name a directory"]),
        (["resume=nowhere"], ["resume=nowhere", "config.yaml"]),
        (["--colour"], ["--colour", "--help"]),
        (["-m", "model=multihed,biggram"], ["model=multihed", "did you mean multihead?"]),
        (["-m", "model.n_hed=1,2"], ["model.n_hed", "did you mean"]),
    ],
    ids=" ".join,
)
def test_a_user_error_in_the_command_is_one_line_and_leaves_no_files(
    arguments: list[str], named: list[str], tmp_path: Path
) -> None:
    line = error_line(*arguments, cwd=tmp_path)
    assert all(part in line for part in named), line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model=gpt", "data=text", "data.path=short.txt"], ["model.block_size=256", "longer text"]),
    ],
    ids=" ".join,
)
def test_a_user_error_found_by_the_job_is_one_line_and_leaves_no_files(
    arguments: list[str], named: list[str], tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text(TEXT)
    line = error_line(*arguments, cwd=tmp_path)
    assert all(part in line for part in named), line


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("rung: gpt\n")
    line = error_line("hydra.run.dir=run", cwd=tmp_path)
    assert "already holds a run" in line
    assert f"resume={tmp_path / 'run'}" in line


def test_a_run_directory_cannot_be_inside_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be created" in error_line("hydra.run.dir=file/run", cwd=tmp_path)


def test_resume_takes_no_other_argument(tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("rung: gpt\n")
    assert "leave out seed=2" in error_line("resume=run", "seed=2", cwd=tmp_path)


def test_paths_may_contain_spaces_quotes_commas_and_equal_signs(tmp_path: Path) -> None:
    (tmp_path / "my, text='x'.txt").write_bytes(TEXT.encode())
    run = tmp_path / "a b" / "it's, c=d"
    arguments = ["data=text", r"data.path='my, text=\'x\'.txt'", r"hydra.run.dir='a b/it\'s, c=d'"]
    done = command("train.py", "trainer.max_steps=2", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "my, text='x'.txt"]

    before = contents(run)
    again = command("train.py", f"resume={run.relative_to(tmp_path)}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is already finished; trainer.max_steps=N with more steps trains it for longer" in again.stdout
    assert contents(run) == before


def test_two_runs_started_together_get_two_directories(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "train.py"), "trainer.max_steps=1", "logger=none"]
    runs = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert len(list(tmp_path.glob("outputs/bigram/*/result.json"))) == 2


def test_each_job_of_a_sweep_has_its_own_directory(tmp_path: Path) -> None:
    arguments = ["-m", "model=bigram,embedding", "seed=1,2", "trainer.max_steps=1", "logger=none"]
    done = command("train.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/model/*/result.json"))) == 4


def test_a_config_can_be_shown_without_a_run(tmp_path: Path) -> None:
    done = warm_command("train.py", "--cfg", "job", "model=gpt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "n_layer: 6" in done.stdout
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("arguments", [["--help"], ["model=multihed"]], ids=" ".join)
def test_help_and_user_errors_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "gptladder.cli.main" in imported
    assert not imported & {"torch", "lightning"}


def test_help_lists_every_group_and_choice(tmp_path: Path) -> None:
    shown = warm_command("train.py", "--help", cwd=tmp_path, COLUMNS="80").stdout
    words = shown.split()
    for group in (path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"{group.name}=" in words
        assert {choice.stem for choice in group.glob("*.yaml")} <= set(words)
    assert shown.index("bigram") < shown.index("multihead") < shown.index("gpt  ")
    assert set(RUNGS) <= set(words)


def test_help_lists_every_promised_key_and_every_extra_in_80_columns(tmp_path: Path) -> None:
    shown = warm_command("train.py", "--help", cwd=tmp_path, COLUMNS="80").stdout
    keys = ("fast=auto|true|false", "seed=", "hydra.run.dir=", "resume=", "sweep=", "fresh=", "plan=", "init_from=")
    keys += ("data.path=", "data.batch_size=", "data.stream=", "optimizer.lr=")
    keys += ("trainer.max_steps=", "trainer.val_check_interval=")
    keys += ("model.{n_layer,n_head,head_size,n_embd,block_size,dropout}",)
    assert all(key in shown for key in keys)
    one_line = " ".join(shown.split())
    for extra in ("bpe", "gpt2", "search", "ray", "slurm", "wandb", "mlflow"):
        assert f"pip install -e '.[{extra}]'" in one_line
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0 is set, as torchrun does"),
        ({"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}, "LOCAL_RANK=1 is set, as torchrun does"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "SLURM_STEP_NUM_TASKS=2 is set, as srun does"),
        ({"RANK": "3"}, "RANK=3 is set, as torchrun does"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID=2 is set, as srun does"),
        ({"NODE_RANK": "abc"}, "NODE_RANK=abc is set, as a launcher of several nodes does"),
    ],
    ids=["LOCAL_RANK", "torchrun", "srun", "RANK", "SLURM_PROCID", "NODE_RANK"],
)
@pytest.mark.parametrize("arguments", [["hydra.run.dir=r"], ["-m", "seed=1,2"], ["resume=r"]], ids=" ".join)
def test_a_launcher_that_starts_the_command_per_device_is_refused(
    environment: dict[str, str], words: str, arguments: list[str], tmp_path: Path
) -> None:
    done = Warm("train.py", *arguments, cwd=tmp_path, **environment)
    assert done.end() == 2
    (line,) = done.stderr.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_one_task_of_srun_trains(tmp_path: Path) -> None:
    few = ("trainer.max_steps=1", "data.estimate_batches=1", "~callbacks.samples", "logger=none")
    done = Warm("train.py", *few, "hydra.run.dir=r", cwd=tmp_path, SLURM_STEP_NUM_TASKS="1")
    assert done.end() == 0, done.stderr
