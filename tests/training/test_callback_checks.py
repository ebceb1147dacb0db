"""A callback that would not do what it says is refused before anything runs."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from gptladder.system.errors import UserError
from gptladder.training.callback_checks import check_callbacks
from helpers.configs import trained

BEST = {"monitor": "val/loss", "filename": "best"}


def refusal(*callbacks: L.Callback, log_every_n_steps: int = 50, val_check_interval: int = 200) -> str | None:
    """Why callbacks are refused; ``None`` if they are not."""
    intervals = {"log_every_n_steps": log_every_n_steps, "val_check_interval": val_check_interval}
    try:
        check_callbacks(callbacks, has_logger=True, **intervals)
    except UserError as error:
        return str(error)
    return None


class Own(L.Callback):
    """A user's callback, which may log anything."""


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (
            ModelCheckpoint(monitor="val_loss"),
            "monitors val_loss, which is not logged: did you mean val/loss?",
        ),
        (EarlyStopping(monitor="loss"), "EarlyStopping monitors loss, which is not logged: did you mean val/loss?"),
        (EarlyStopping(monitor="accuracy"), "EarlyStopping monitors accuracy, which is not logged: "),
        (ModelCheckpoint(**BEST, save_top_k=3), "save_top_k=3 would save worse ones"),
        (ModelCheckpoint(**BEST, save_top_k=-1), "save_top_k=-1 would save worse ones"),
        (ModelCheckpoint(**BEST, save_top_k=0), "save_top_k=0"),
        (ModelCheckpoint(**BEST, mode="max"), "mode=max would keep the worst"),
        (ModelCheckpoint(filename="best"), "without a monitor it would be the last"),
        (ModelCheckpoint(**BEST, every_n_train_steps=50), "val/loss is measured at evaluations"),
        (ModelCheckpoint(**BEST, train_time_interval=timedelta(seconds=1)), "val/loss is measured at evaluations"),
        (ModelCheckpoint(train_time_interval={"seconds": 1}), "is not a time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_callback_that_cannot_work_is_refused(callback: L.Callback, words: str) -> None:
    assert words in (refusal(callback) or "")


@pytest.mark.parametrize(
    "callbacks",
    [
        [ModelCheckpoint(**BEST)],
        [ModelCheckpoint(monitor="train/estimate", filename="best")],
        [ModelCheckpoint(monitor="val/loss", save_top_k=3, filename="{step}")],
        [ModelCheckpoint(every_n_train_steps=50)],
        [EarlyStopping(monitor="train/loss")],
        [EarlyStopping(monitor="accuracy"), Own()],
    ],
    ids=range(6),
)
def test_a_callback_that_works_is_not(callbacks: list[L.Callback]) -> None:
    assert refusal(*callbacks) is None


def test_a_training_loss_must_be_logged_before_the_first_evaluation() -> None:
    message = refusal(EarlyStopping(monitor="train/loss"), log_every_n_steps=500)
    assert "set trainer.log_every_n_steps=200" in (message or "")


def test_two_callbacks_with_one_state_are_refused() -> None:
    message = refusal(ModelCheckpoint(**BEST), ModelCheckpoint(monitor="val/loss", filename="other"))
    assert "2 callbacks save their state as ModelCheckpoint" in (message or "")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+callbacks.x.dirpath=foo", "callbacks.x is a dict, not a Lightning Callback"),
        ("+callbacks.x=3", "callbacks.x is a int, not a Lightning Callback"),
        ("+callbacks.x._target_=os.getcwd", "callbacks.x is a str, not a Lightning Callback"),
        ("+logger.x._target_=os.getcwd", "logger.x is a str, not a Lightning Logger"),
        ("+callbacks.x._target_=lightning.pytorch.callbacks.ModelCheckpoint", "2 callbacks save their state"),
        ("hardware.strategy=ddp_spawn", "use ddp"),
        ("hardware.strategy=ddp_fork", "use ddp"),
        ("hardware.strategy=ddp_notebook", "use ddp"),
        ("hardware.strategy=fdsp", "strategy"),
        ("+trainer.gradient_clip_algorithm=valu", "gradient_clip_algorithm"),
    ],
)
def test_a_part_that_is_not_one_is_refused(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        trained(tmp_path / "run", "model=bigram", "trainer.max_steps=1", override)
    assert words in str(refused.value)
    assert (
        not (tmp_path / "run" / "result.json").exists()
        or "config_hash" not in (tmp_path / "run" / "result.json").read_text()
    )


def test_a_checkpoint_with_a_name_of_the_user_holds_the_step_of_its_name(tmp_path: Path) -> None:
    every: dict[str, Any] = {"every_n_train_steps": 7, "save_top_k": -1, "dirpath": "${run_dir}/more"}
    words = [f"+callbacks.x.{key}={value}" for key, value in every.items()]
    target = "+callbacks.x._target_=lightning.pytorch.callbacks.ModelCheckpoint"
    few = ("trainer.max_steps=21", "trainer.val_check_interval=10", "data.estimate_batches=1", "logger=none")
    trained(tmp_path, "model=bigram", *few, target, *words)
    assert {path.stem for path in (tmp_path / "more").iterdir()} == {f"epoch=0-step={step}" for step in (7, 14, 21)}


class Thing:
    """An object that a checkpoint cannot hold."""


class Stateful(L.Callback):
    """A user's callback whose state is an object, at once or later."""

    def __init__(self, *, at_once: bool) -> None:
        self.state: Any = {"thing": Thing()} if at_once else {"n": 1}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.state)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.state = {"thing": Thing()}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_state_that_could_not_be_read_again_is_refused(at_once: bool, tmp_path: Path) -> None:
    target = f"+callbacks.x={{_target_: training.test_callback_checks.Stateful, at_once: {at_once}}}"
    with pytest.raises(UserError, match="the state of the callback Stateful has an object"):
        trained(tmp_path, "model=bigram", "trainer.max_steps=4", "data.estimate_batches=1", target, "logger=none")
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").glob("last*"))


def test_a_run_with_a_callback_of_the_users_says_that_it_cannot_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = "+callbacks.x._target_=training.test_callback_checks.Own"
    trained(tmp_path, "model=bigram", "trainer.max_steps=2", "data.estimate_batches=1", target, "logger=none")
    assert "resume= will refuse this run: no config in conf/ names training.test_callback_checks.Own" in (
        capsys.readouterr().out
    )
