"""The result of a run: its contract, and what a failed or killed run leaves."""

import json
import subprocess
from pathlib import Path

import pytest

from gptladder.runs import environment as environment_module
from gptladder.runs.environment import environment
from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write, remove_stale_files
from helpers.configs import trained

CONTRACT = {
    "status", "error", "model", "seed", "step", "params", "train_estimate", "val_estimate", "val_loss",
    "val_bits_per_char", "best", "curve", "published", "tokens", "train_seconds", "wall_seconds",
    "tokens_per_second", "peak_memory_mb", "config_hash", "corpus_sha256", "versions", "git", "command",
}  # fmt: skip


@pytest.mark.xdist_group("finished_run")
def test_a_finished_run_has_every_promised_key_and_file(finished_run: Path) -> None:
    result = json.loads((finished_run / "result.json").read_text())
    assert result.keys() >= CONTRACT
    assert result["model"] == "multihead"
    assert result["params"] == 7553
    assert result["command"] == "python train.py model=multihead trainer.max_steps=20 hydra.run.dir=run"
    assert result["best"]["val_loss"] == min(point["val_loss"] for point in result["curve"])
    files = {str(path.relative_to(finished_run)) for path in finished_run.rglob("*") if path.is_file()}
    expected = {
        ".hydra/config.yaml",
        "result.json",
        "metrics.csv",
        "train.log",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    }
    assert files >= expected
    assert any(name.startswith("events.out.tfevents") for name in files)


@pytest.mark.xdist_group("finished_run")
def test_a_run_needs_less_than_700_mb(finished_run: Path) -> None:
    assert json.loads((finished_run / "result.json").read_text())["peak_memory_mb"] < 700


def test_the_end_of_a_run_is_recorded(tmp_path: Path) -> None:
    for error, status, words in (
        (ValueError("too hot"), "failed", "too hot"),
        (SystemExit(143), "interrupted", None),
        (UserError("no such key"), "failed", "no such key"),
    ):
        run = Run(tmp_path)
        with pytest.raises(type(error)), run.recording():
            raise error
        result = Run.read(tmp_path)
        assert result["status"] == status
        assert words is None or words in result["error"]


def test_a_directory_never_holds_two_configs(tmp_path: Path) -> None:
    few = ["trainer.max_steps=2", "logger=none", "callbacks=default", "~callbacks.samples"]
    trained(tmp_path, "model=bigram", *few)
    with pytest.raises(UserError, match="seed was 1337 and is 2"):
        trained(tmp_path, "model=bigram", *few, "seed=2")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write("not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.99999999.part").write_text("half")
    (tmp_path / "last.ckpt").write_text("complete")
    remove_stale_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_commit_of_another_project_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "another project"], check=True)
    installed = tmp_path / "lib" / "site-packages" / "gptladder" / "runs" / "environment.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(environment_module, "__file__", str(installed))
    assert environment()["git"] is None
