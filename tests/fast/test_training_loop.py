"""The fast training loop: which steps Lightning sees, and how batches are drawn."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from gptladder.data.training_batches import RandomBatches
from gptladder.fast import training_loop
from gptladder.fast.numba_gpt import NumbaGPT
from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.callbacks.progress import Progress
from helpers.configs import record_config

FEW = ("logger=none", "callbacks.samples=null", "callbacks.attention_maps=null", "data.estimate_batches=1")


def seen_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[int]:
    """The steps of a run that Lightning sees, as a callback of ours would."""
    steps: list[int] = []

    def on_train_batch_end(self: Progress, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step not in steps:
            steps.append(trainer.global_step)

    monkeypatch.setattr(Progress, "on_train_batch_end", on_train_batch_end)
    cfg = record_config(tmp_path, *FEW, *overrides)
    data = build_datamodule(cfg)
    module = build_module(cfg, data)
    trainer = build_trainer(cfg, module, data, Run(tmp_path))
    trainer.fit(module, data)
    assert trainer.global_step == cfg.trainer.max_steps
    return steps


def test_lightning_sees_the_steps_at_which_something_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=50", "trainer.val_check_interval=20", "trainer.log_every_n_steps=15")
    assert seen_steps(tmp_path, monkeypatch, *options) == [15, 20, 30, 40, 45, 50]


def test_a_checkpoint_interval_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=20", "trainer.val_check_interval=20", "+callbacks.last.every_n_train_steps=7")
    assert seen_steps(tmp_path, monkeypatch, *options) == [7, 14, 20]


def test_accumulated_batches_belong_to_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=12", "trainer.val_check_interval=6", "trainer.accumulate_grad_batches=3")
    steps = seen_steps(tmp_path, monkeypatch, *options)
    assert steps == [5, 6, 11, 12]  # the first two batches of a step that Lightning sees come after the step before


def test_steps_that_take_long_are_seen_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "MAX_WORK", 4225 * 256 * 2)  # two steps of a bigram
    options = ("trainer.max_steps=9", "trainer.val_check_interval=9")
    assert seen_steps(tmp_path, monkeypatch, *options) == [3, 6, 9]


@pytest.mark.parametrize(
    ("overrides", "in_one_call"),
    [(["model=layernorm"], True), (["model=dropout"], False), (["model=dropout", "data.stream=independent"], True)],
)
def test_batches_are_not_prefetched_when_dropout_shares_the_generator(
    overrides: list[str], in_one_call: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    sample = RandomBatches.sample

    def watched(self: RandomBatches, n_batches: int) -> Any:
        sizes.append(n_batches)
        return sample(self, n_batches)

    monkeypatch.setattr(RandomBatches, "sample", watched)
    seen_steps(tmp_path, monkeypatch, *overrides, "trainer.max_steps=10", "trainer.val_check_interval=10")
    assert (max(sizes) > 1) == in_one_call
    assert sum(sizes) == 10


class ReplacingSGD(torch.optim.SGD):
    """An optimizer of a user that gives parameters new memory."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()
        for parameter in self.param_groups[0]["params"]:
            parameter.data = parameter.data - self.param_groups[0]["lr"] * parameter.grad


class Hooked(torch.optim.SGD):
    """An optimizer that shows its gradients to something before each step."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.register_step_pre_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("overrides", "without_autograd"),
    [
        ([], True),
        (["optimizer=muon"], True),
        (["trainer.gradient_clip_val=1"], True),
        (["trainer.accumulate_grad_batches=2"], False),
        (["optimizer=adamw_matrices"], True),
        ([f"optimizer._target_={__name__}.ReplacingSGD", "~optimizer.fused", "~optimizer.betas"], False),
        ([f"optimizer._target_={__name__}.Hooked", "~optimizer.betas"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_steps_need_no_autograd_if_the_optimizer_changes_weights_in_place(
    overrides: list[str], without_autograd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches = []
    plain = NumbaGPT.gradients_without_autograd

    def watched(self: NumbaGPT) -> Any:
        stretches.append(plain(self))
        return stretches[-1]

    monkeypatch.setattr(NumbaGPT, "gradients_without_autograd", watched)
    seen_steps(
        tmp_path, monkeypatch, "model=layernorm", *overrides, "trainer.max_steps=6", "trainer.val_check_interval=6"
    )
    assert any(stretches) == without_autograd
