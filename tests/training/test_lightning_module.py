"""Training with the LanguageModel: what a step does, what is evaluated, and when."""

import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from gptladder.data.datamodule import TextDataModule
from gptladder.evaluation.loss import exact_loss
from gptladder.model import Bigram
from gptladder.runs.checkpoint import load_trained, validation_tokens
from gptladder.system.errors import UserError
from gptladder.training.build import build_datamodule, build_module
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.observers import STEP_HOOKS
from gptladder.training.schedulers import cosine, linear
from helpers.configs import composed, trained
from helpers.marks import slow

FEW = ["trainer.max_steps=7", "trainer.val_check_interval=3", "~callbacks.samples", "~callbacks.attention_maps"]


@pytest.mark.parametrize(("max_steps", "steps"), [(6, [0, 3, 6]), (7, [0, 3, 6, 7]), (2, [0, 2])])
def test_a_run_is_evaluated_at_step_0_at_every_interval_and_at_the_last_step(
    max_steps: int, steps: list[int], tmp_path: Path
) -> None:
    result = trained(tmp_path, "model=bigram", *FEW, f"trainer.max_steps={max_steps}", "logger=none")
    assert [point["step"] for point in result["curve"]] == steps
    assert result["step"] == max_steps
    assert result["tokens"] == max_steps * 32 * 8
    assert result["status"] == "finished"


def test_the_first_evaluation_does_not_change_a_run_with_an_independent_stream(tmp_path: Path) -> None:
    words = ["model=bigram", *FEW, "data.stream=independent", "data.estimate_batches=1", "logger=none"]
    with_first, without = (trained(tmp_path / first, *words, f"evaluate_first={first}") for first in ("true", "false"))
    assert [point["step"] for point in without["curve"]] == [3, 6, 7]
    assert without["val_loss"] == with_first["val_loss"]
    assert without["best"] == with_first["best"]


def test_the_exact_loss_is_that_of_the_last_checkpoint_on_the_complete_validation_split(tmp_path: Path) -> None:
    result = trained(tmp_path, "model=multihead", *FEW, "logger=none")
    last = load_trained(tmp_path / "checkpoints" / "last.ckpt")
    loss = exact_loss(last.net, validation_tokens(last).tokens, block_size=8, vocab_size=65)
    assert result["val_loss"] == pytest.approx(loss, abs=1e-6)
    assert result["val_bits_per_char"] == pytest.approx(loss / math.log(2), abs=1e-6)


def test_accumulating_two_half_batches_equals_one_step_on_both(tmp_path: Path) -> None:
    whole = ["data.stream=independent", "model=multihead", *FEW, "logger=none"]
    once = trained(tmp_path / "once", *whole)
    twice = trained(tmp_path / "twice", *whole, "data.batch_size=16", "trainer.accumulate_grad_batches=2")
    assert [point["step"] for point in twice["curve"]] == [point["step"] for point in once["curve"]]
    assert twice["tokens"] == once["tokens"]
    assert twice["val_loss"] == pytest.approx(once["val_loss"], abs=1e-6)


@pytest.mark.parametrize("hardware", ["cpu", "mixed"])
def test_gradients_are_clipped_in_every_precision(hardware: str, tmp_path: Path) -> None:
    clipped = trained(
        tmp_path, "model=layernorm", *FEW, "logger=none", f"hardware={hardware}", "trainer.gradient_clip_val=1e-9"
    )
    # Adam's first steps have the size of the learning rate for any gradient; only next to epsilon is one small.
    free = trained(tmp_path / "free", "model=layernorm", *FEW, "logger=none", f"hardware={hardware}")
    first = clipped["curve"][0]["val_loss"]
    assert abs(clipped["val_loss"] - first) < 0.5 * abs(free["val_loss"] - first)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*logging interval.*")
def test_gradients_are_clipped_before_fp16_unscales_them(fused: bool, algorithm: str, tmp_path: Path) -> None:
    def train(clip: float | None) -> torch.Tensor:
        torch.manual_seed(0)
        data = TextDataModule(batch_size=4, estimate_batches=1)
        module = LanguageModel(Bigram(), optimizer=partial(torch.optim.SGD, lr=1.0, fused=fused))
        before = module.net.table.weight.detach().clone()
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=1,
            limit_val_batches=0,
            gradient_clip_val=clip,
            gradient_clip_algorithm=algorithm,
            plugins=[MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10))],
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
        return before - module.net.table.weight.detach()

    gradient = train(None)
    limit = float(gradient.norm() if algorithm == "norm" else gradient.abs().max()) / 4
    clipped = train(limit)
    expected = gradient / 4 if algorithm == "norm" else gradient.clamp(-limit, limit)
    assert torch.allclose(clipped, expected, rtol=1e-3, atol=1e-6)
    assert gradient.abs().max() > 0


def test_bf16_on_the_cpu_learns_like_fp32(tmp_path: Path) -> None:
    full = trained(tmp_path / "fp32", "model=layernorm", *FEW, "logger=none")
    mixed = trained(tmp_path / "bf16", "model=layernorm", *FEW, "logger=none", "hardware=mixed")
    assert mixed["val_loss"] == pytest.approx(full["val_loss"], abs=0.02)
    assert mixed["val_loss"] != full["val_loss"]


@pytest.mark.slow
def test_a_compiled_run_gives_the_same_losses_and_a_portable_checkpoint(tmp_path: Path) -> None:
    eager = trained(tmp_path / "eager", "model=multihead", *FEW, "logger=none")
    compiled = trained(tmp_path / "compiled", "model=multihead", *FEW, "logger=none", "hardware.compile=true")
    assert compiled["val_loss"] == pytest.approx(eager["val_loss"], abs=1e-4)
    last = load_trained(tmp_path / "compiled" / "checkpoints" / "last.ckpt")
    assert exact_loss(last.net, validation_tokens(last).tokens, block_size=8, vocab_size=65) == pytest.approx(
        compiled["val_loss"], abs=1e-4
    )


@pytest.mark.parametrize("accumulated", [2, *slow([1])])
@pytest.mark.parametrize("hook", [hook for hook in STEP_HOOKS if "validation" not in hook])
def test_step_hooks_fire_at_every_step_and_change_nothing(
    hook: str, accumulated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    words = ["model=multihead", *FEW, "logger=none", "data.estimate_batches=1"]
    words.append(f"trainer.accumulate_grad_batches={accumulated}")
    unobserved = trained(tmp_path / "unobserved", *words)
    assert unobserved["path"] == "fast"
    monkeypatch.setattr(Observer, hook, lambda self, trainer, *_: steps.append(trainer.global_step), raising=False)
    monkeypatch.setattr(Observer, "__module__", "observer")
    monkeypatch.setitem(sys.modules, "observer", sys.modules[__name__])
    observed = trained(tmp_path / "observed", *words, "+callbacks.observer._target_=observer.Observer")
    assert observed["curve"] == unobserved["curve"]
    assert observed["path"] == "plain"
    # Lightning counts a step before the last hook of its last batch.
    per_batch = [step for step in range(7) for _ in range(accumulated)]
    expected = {
        "on_train_batch_start": per_batch,
        "on_train_batch_end": [step + 1 if (i + 1) % accumulated == 0 else step for i, step in enumerate(per_batch)],
        "on_before_backward": per_batch,
        "on_after_backward": per_batch,
    }
    assert steps == expected.get(hook, list(range(7)))


class Observer(L.Callback):
    """A callback of a user; tests give it a hook."""


def test_the_cosine_schedule_warms_up_and_decays_to_its_minimum() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine(optimizer, max_steps=20, warmup_steps=4, min_lr_ratio=0.1)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_every_parameter_group_decays_to_its_own_minimum(schedule: Callable[..., Any], warmup_steps: int) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.02, 0.001)]
    optimizer = torch.optim.SGD(groups)
    scheduler = schedule(optimizer, max_steps=20, warmup_steps=warmup_steps, min_lr_ratio=0.1)
    for _ in range(20):
        large, small = (group["lr"] for group in optimizer.param_groups)
        assert large == pytest.approx(20 * small)
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.002, 0.0001])


def test_settings_of_a_scheduler_that_is_not_chosen_are_refused(tmp_path: Path) -> None:
    message = "scheduler has no _target_ but has min_lr_ratio: choose one, as in scheduler=linear"
    with pytest.raises(UserError, match=message):
        trained(tmp_path / "run", "model=bigram", "ablation=constant_lr", *FEW)


def test_a_scheduled_run_logs_the_learning_rate_of_each_step(tmp_path: Path) -> None:
    trained(
        tmp_path,
        "model=bigram",
        *FEW,
        "logger=csv",
        "scheduler=cosine",
        "scheduler.warmup_steps=3",
        "trainer.log_every_n_steps=1",
    )
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    rates = [float(line.split(",")[2]) for line in lines if line.split(",")[1] == "train/lr"]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[-1] < 0.01


def test_the_rung_gpt_takes_a_step_and_is_evaluated_on_the_cpu(tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("What light through yonder window breaks? " * 70)
    sizes = [
        "data.batch_size=1",
        "data.estimate_batches=2",
        "trainer.max_steps=1",
        "~callbacks.samples",
        "~callbacks.attention_maps",
    ]
    result = trained(tmp_path / "run", "model=gpt", "data=text", f"data.path={text}", *sizes, "logger=none")
    assert [point["step"] for point in result["curve"]] == [0, 1]
    assert result["val_loss"] < result["curve"][0]["val_loss"]


def test_the_metadata_of_a_checkpoint_is_plain_values() -> None:
    cfg = composed("model=multihead", "run_dir=x")
    module = build_module(cfg, build_datamodule(cfg))

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(plain(item) for item in value)
        return value is None or type(value) in (str, int, float, bool)

    assert plain(module.metadata)
