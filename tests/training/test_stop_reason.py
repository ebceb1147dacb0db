"""A run is finished only if its last step was reached and evaluated; any other end says what stopped it."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.processes import Warm

FEW = (
    "model=bigram",
    "trainer.max_steps=20",
    "trainer.val_check_interval=10",
    "data.estimate_batches=1",
    "callbacks.samples=null",
    "logger=none",
)
HOPELESS = (
    "callbacks=early_stopping",
    "callbacks.early_stopping.patience=1",
    "callbacks.early_stopping.min_delta=9",
    "trainer.max_steps=40",
)


class StopAt(L.Callback):
    """Asks for the end after some steps, as any callback may."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.step


@pytest.mark.parametrize(
    ("overrides", "step", "reason"),
    [
        (["+trainer.max_time={seconds:0}"], 0, "the time limit was reached"),
        (["+trainer.max_time=00:00:00:00"], 0, "the time limit was reached"),
        (["+callbacks.t={_target_: lightning.pytorch.callbacks.Timer, duration: {seconds: 0}}"], 0, "the time limit"),
        (["trainer.max_epochs=1", "+trainer.limit_train_batches=7"], 7, "trainer.max_epochs=1 was reached"),
        (["trainer.max_epochs=2", "+trainer.limit_train_batches=7"], 14, "trainer.max_epochs=2 was reached"),
        (
            ["+callbacks.x={_target_: training.test_stop_reason.StopAt, step: 3}"],
            3,
            "a callback set trainer.should_stop",
        ),
        (HOPELESS, 20, "early stopping: Monitored metric val/loss did not improve in the last 1 records"),
    ],
    ids=["max_time", "max_time as text", "Timer", "an epoch", "two epochs", "should_stop", "early stopping"],
)
def test_a_run_that_ends_before_its_last_step_is_stopped_evaluated_and_saved_there(
    overrides: list[str], step: int, reason: str, tmp_path: Path
) -> None:
    result = trained(tmp_path, *FEW, *overrides)
    assert (result["status"], result["step"]) == ("stopped", step)
    assert result["stopped_by"].startswith(reason)
    assert result["curve"][-1]["step"] == step
    saved = tmp_path / "checkpoints/last.ckpt"
    assert (torch.load(saved, weights_only=True)["global_step"] if saved.exists() else 0) == step


def test_a_run_that_reaches_its_last_step_is_finished(tmp_path: Path) -> None:
    result = trained(tmp_path, *FEW, "+trainer.max_time=00:01:00:00", "callbacks=early_stopping")
    assert (result["status"], result["stopped_by"], result["step"]) == ("finished", None, 20)


def test_without_the_callback_that_evaluates_the_last_step_it_is_evaluated_all_the_same(tmp_path: Path) -> None:
    result = trained(tmp_path, *FEW, "callbacks.stopping=null", "trainer.val_check_interval=15")
    assert (result["status"], [point["step"] for point in result["curve"]]) == ("finished", [0, 15, 20])


@pytest.mark.parametrize("key", ["trainer.max_epochs", "+trainer.limit_train_batches"])
def test_a_limit_that_leaves_nothing_to_train_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"=0 leaves nothing to train"):
        trained(tmp_path, *FEW, f"{key}=0")


def test_a_sanity_check_records_no_point(tmp_path: Path) -> None:
    result = trained(tmp_path, *FEW, "trainer.num_sanity_val_steps=2")
    assert [point["step"] for point in result["curve"]] == [0, 10, 20]


def test_the_command_says_what_stopped_a_run_and_resume_gives_it_the_time_again(tmp_path: Path) -> None:
    words = (*FEW, "trainer.max_steps=1000000", "+trainer.max_time={seconds:1}", "hydra.run.dir='a run'")
    first = Warm("train.py", *words, cwd=tmp_path)
    assert first.end() == 0, first.stderr
    assert "stopped early   the time limit was reached" in first.stdout
    assert "python train.py 'resume=a run'" in first.stdout
    before = Run.read(tmp_path / "a run")
    assert before["status"] == "stopped"
    again = Warm("train.py", "resume=a run", cwd=tmp_path)
    assert again.end() == 0, again.stderr
    assert Run.read(tmp_path / "a run")["step"] > before["step"]


def test_a_sweep_does_not_train_a_job_again_that_early_stopping_ended(tmp_path: Path) -> None:
    words = ("train.py", "-m", *FEW, *HOPELESS, "seed=1", "sweep=s")
    for _ in range(2):
        launched = Warm(*words, cwd=tmp_path)
        assert launched.end() == 0, launched.stderr
    (run,) = (path.parent for path in tmp_path.glob("outputs/s/*/result.json"))
    assert Run.read(run)["step"] == 20
    assert "stopped at step 20" not in launched.stdout  # the line of a job that ran
    assert "STOPPED" in launched.stdout
