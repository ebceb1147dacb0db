"""Claims about learning: what a step does, what is measured, and when."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from gptladder.evaluation.loss import exact_loss, validation_split
from gptladder.runs.checkpoint import load_trained
from gptladder.training.build import build_datamodule, build_module
from gptladder.training.callbacks.stopping import Stopping
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.schedulers import cosine
from helpers.configs import composed, trained

FEW = ["trainer.max_steps=7", "trainer.val_check_interval=3", "~callbacks.samples", "~callbacks.attention_maps"]


@pytest.mark.parametrize(("max_steps", "steps"), [(6, [0, 3, 6]), (7, [0, 3, 6, 7]), (2, [0, 2])])
def test_a_run_is_measured_at_0_every_interval_and_the_last_step(
    max_steps: int, steps: list[int], tmp_path: Path
) -> None:
    result = trained(tmp_path, "model=bigram", *FEW, f"trainer.max_steps={max_steps}", "logger=none")
    assert [point["step"] for point in result["curve"]] == steps
    assert result["step"] == max_steps
    assert result["tokens"] == max_steps * 32 * 8
    assert result["status"] == "finished"


def test_without_a_first_evaluation_a_run_learns_the_same_from_a_stream_of_its_own(tmp_path: Path) -> None:
    words = ["model=bigram", *FEW, "data.stream=independent", "data.estimate_batches=1", "logger=none"]
    with_first, without = (trained(tmp_path / first, *words, f"evaluate_first={first}") for first in ("true", "false"))
    assert [point["step"] for point in without["curve"]] == [3, 6, 7]
    assert without["val_loss"] == with_first["val_loss"]
    assert without["best"] == with_first["best"]


def test_the_exact_loss_is_that_of_the_last_checkpoint_on_the_whole_validation_split(tmp_path: Path) -> None:
    result = trained(tmp_path, "model=multihead", *FEW, "logger=none")
    last = load_trained(tmp_path / "checkpoints" / "last.ckpt")
    loss = exact_loss(last.net, validation_split(last).tokens, block_size=8)
    assert result["val_loss"] == pytest.approx(loss, abs=1e-6)
    assert result["val_bits_per_char"] == pytest.approx(loss / math.log(2), abs=1e-6)


def test_accumulating_two_half_batches_is_one_step_on_both(tmp_path: Path) -> None:
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
    # Adam's first steps have the size of the learning rate whatever the gradient; epsilon tells the tiny ones apart.
    free = trained(tmp_path / "free", "model=layernorm", *FEW, "logger=none", f"hardware={hardware}")
    first = clipped["curve"][0]["val_loss"]
    assert abs(clipped["val_loss"] - first) < 0.5 * abs(free["val_loss"] - first)


def test_bf16_on_the_cpu_learns_as_fp32_does(tmp_path: Path) -> None:
    full = trained(tmp_path / "fp32", "model=layernorm", *FEW, "logger=none")
    mixed = trained(tmp_path / "bf16", "model=layernorm", *FEW, "logger=none", "hardware=mixed")
    assert mixed["val_loss"] == pytest.approx(full["val_loss"], abs=0.02)
    assert mixed["val_loss"] != full["val_loss"]


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_and_its_checkpoint_is_portable(tmp_path: Path) -> None:
    eager = trained(tmp_path / "eager", "model=multihead", *FEW, "logger=none")
    compiled = trained(tmp_path / "compiled", "model=multihead", *FEW, "logger=none", "hardware.compile=true")
    assert compiled["val_loss"] == pytest.approx(eager["val_loss"], abs=1e-4)
    last = load_trained(tmp_path / "compiled" / "checkpoints" / "last.ckpt")
    assert exact_loss(last.net, validation_split(last).tokens, block_size=8) == pytest.approx(
        compiled["val_loss"], abs=1e-4
    )


def test_a_callback_that_listens_to_single_steps_hears_every_one_and_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def listen(self: Stopping, trainer: Trainer, *_: object) -> None:
        heard.append(trainer.global_step)

    words = ["model=multihead", *FEW, "logger=none", "data.estimate_batches=1"]
    unheard = trained(tmp_path / "unheard", *words)
    monkeypatch.setattr(Stopping, "on_before_optimizer_step", listen, raising=False)
    assert trained(tmp_path / "heard", *words)["curve"] == unheard["curve"]
    assert heard == list(range(7))


def test_the_cosine_climbs_then_falls_to_its_final_fraction() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine(optimizer, max_steps=20, warmup_steps=4, final_fraction=0.1)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_scheduled_run_logs_the_rate_it_learns_with(tmp_path: Path) -> None:
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
    rates = [float(line.split(",")[2]) for line in lines if line.split(",")[1] == "lr"]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[-1] < 0.01


def test_the_gpt_takes_a_step_and_is_measured_on_the_cpu(tmp_path: Path) -> None:
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


def test_a_checkpoint_holds_plain_values_only() -> None:
    cfg = composed("model=multihead", "run_dir=x")
    learner: LanguageModel = build_module(cfg, build_datamodule(cfg))

    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(plain(item) for item in value)
        return value is None or type(value) in (str, int, float, bool)

    assert plain(learner.record)
