"""The command line is read as Hydra reads it."""

import json
import shlex
from pathlib import Path

import pytest

from gptladder.cli.command_line import CommandLine
from gptladder.system.errors import UserError
from helpers.configs import CONF, command

FEW = ("trainer.max_steps=2", "data.estimate_batches=1", "~callbacks.samples", "logger=none")


def line(*arguments: str) -> CommandLine:
    return CommandLine(list(arguments), CONF)


def write_experiment(directory: Path, name: str, text: str = "seed: 5") -> None:
    """A config of the user's own, in a directory that is not ours."""
    (directory / "experiment").mkdir(parents=True, exist_ok=True)
    (directory / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=ladder"],
        ["experiment=ladder", "seed=1,2"],
        ["-m", "seed=1,2"],
        ["--multirun", "model=bigram"],
        ["plan=true"],
        ["experiment=speedrun", "plan=true"],
        ["hydra.mode=MULTIRUN", "seed=1,2"],
        ["-cn", "train", "experiment=ladder"],
    ],
)
def test_every_kind_of_sweep_has_our_sweeper(arguments: list[str]) -> None:
    assert line(*arguments).is_sweep
    assert line(*arguments).sweep_overrides == ["hydra.mode=MULTIRUN", "hydra/sweeper=ladder"]


@pytest.mark.parametrize(
    "arguments", [[], ["seed=2"], ["experiment=speedrun"], ["experiment=ladder", "hydra.mode=RUN"]]
)
def test_any_other_command_is_a_single_run(arguments: list[str]) -> None:
    assert not line(*arguments).is_sweep


def test_an_experiment_may_choose_another_sweeper() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")  # pip install -e ".[search]"
    assert line("experiment=search").sweep_overrides == ["hydra.mode=MULTIRUN"]


def test_a_sweeper_on_the_command_line_is_kept() -> None:
    assert line("-m", "hydra/sweeper=basic").sweep_overrides == ["hydra.mode=MULTIRUN"]


@pytest.mark.parametrize("option", ["--config-dir", "searchpath"])
def test_an_experiment_of_the_user_is_found_and_has_our_sweeper(option: str, tmp_path: Path) -> None:
    write_experiment(tmp_path, "mine", "sweep: mine\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}")
    where = ["--config-dir", str(tmp_path)] if option == "--config-dir" else [f"hydra.searchpath=[file://{tmp_path}]"]
    assert line(*where, "experiment=mine").is_sweep
    assert line(*where, "experiment=mine").sweep_overrides == ["hydra.mode=MULTIRUN", "hydra/sweeper=ladder"]


def test_sweeps_of_sweeps_are_refused() -> None:
    with pytest.raises(UserError, match="experiment=ladder has jobs of its own"):
        assert line("-m", "experiment=ladder,off_ladder").is_sweep
    assert line("-m", "experiment=speedrun,marathon").is_sweep


def test_overrides_may_come_before_options() -> None:
    assert line("seed=9", "-cn", "train").arguments("a=b") == ["-cn", "train", "seed=9", "a=b"]


@pytest.mark.parametrize("options", [["-cn", "train"], ["--config-name=train"], ["--run"]])
def test_an_option_does_not_bypass_the_reservation_of_a_directory(options: list[str], tmp_path: Path) -> None:
    first = command("train.py", "hydra.run.dir=r", *FEW, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    recorded = (tmp_path / "r" / ".hydra" / "config.yaml").read_bytes()
    second = command("train.py", *options, "hydra.run.dir=r", "seed=9", *FEW, cwd=tmp_path)
    assert second.returncode == 2
    assert "already holds a run" in second.stderr
    assert (tmp_path / "r" / ".hydra" / "config.yaml").read_bytes() == recorded


def test_an_experiment_in_a_directory_of_the_user_trains(tmp_path: Path) -> None:
    write_experiment(tmp_path / "mine", "own")
    done = command("train.py", "--config-dir", "mine", "experiment=own", "hydra.run.dir=r", *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed: 5" in (tmp_path / "r" / ".hydra" / "config.yaml").read_text()


def test_a_second_sweep_of_another_seed_trains_it(tmp_path: Path) -> None:
    for seed in (1, 2):
        done = command("train.py", "-m", "experiment=none", f"seed={seed}", *FEW, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs" / "multirun").glob("*/result.json"))) == 2


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_records_the_command_as_it_was_typed(launcher: str, tmp_path: Path) -> None:
    words = ["-m", "model=bigram", "seed=1", f"launcher={launcher}", *FEW]
    done = command("train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "outputs" / "multirun").glob("*/result.json")
    assert json.loads(path.read_text())["command"] == shlex.join(["python", "train.py", *words])


def test_a_finished_run_of_another_config_is_not_passed_off(tmp_path: Path) -> None:
    for seed, code in ((1, 0), (2, 1)):
        done = command("train.py", "-m", "hydra/sweeper=basic", f"seed={seed}", *FEW, cwd=tmp_path)
        # Hydra's own sweeper numbers the directories of its jobs, so that both are in 0.
        assert (done.returncode != 0) == code, done.stderr
        assert ("cannot resume from" in done.stderr) == code


def test_a_directory_of_configs_that_does_not_exist_is_a_user_error(tmp_path: Path) -> None:
    done = command("train.py", "--config-dir", "nowhere", "model=bigram", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--config-dir nowhere is not a directory" in done.stderr
