"""How well a GPU is used: the peaks by name, the formula, and where a run records it; the GPU is simulated."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from gptladder.model.flops import training_flops_per_token
from gptladder.training import gpu_use
from gptladder.training.gpu_use import flops_utilization, peak_flops
from helpers.configs import trained
from helpers.networks import build_rung
from helpers.runs import killed_at, read, small

H100 = "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        (H100, 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", None),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", None),
        ("Tesla T4", None),  # it has no bf16
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("Radeon", None),
    ],
)
def test_the_peak_is_known_by_the_name_of_the_gpu(name: str, teraflops: float | None) -> None:
    assert peak_flops(name) == (None if teraflops is None else teraflops * 1e12)


def test_utilization_is_the_share_of_the_peak() -> None:
    assert flops_utilization(flops_per_token=6_000_000, tokens_per_second=1e6, peak=312e12) == pytest.approx(0.01923077)


class SimulatedGPU:
    """Lets ``gpu_use`` see a GPU of a name under the trainer that computes on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123 * 2**20)
        measure = gpu_use.gpu_use
        strategy = SimpleNamespace(root_device=torch.device("cuda"))
        monkeypatch.setattr(
            gpu_use,
            "gpu_use",
            lambda trainer, **options: measure(SimpleNamespace(strategy=strategy, world_size=1), **options),  # type: ignore[arg-type]
        )


def logged(run: Path) -> list[tuple[int, float]]:
    with (run / "metrics.csv").open() as file:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(file) if row["name"] == "train/mfu"]


def run_on(name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    monkeypatch.setitem(gpu_use.PEAK_FLOPS, "Slow", 1e9)
    if name is not None:
        SimulatedGPU(monkeypatch, name)
    return trained(tmp_path / "run", *small(tmp_path), "logger=csv", "fast=false", *words)


def test_a_run_records_and_logs_the_use_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_on("Slow", tmp_path, monkeypatch)
    assert (result["device"], result["peak_gpu_memory_mb"]) == ("Slow", 123)
    flops = training_flops_per_token(build_rung("dropout"), 8)
    (_, compiling), (_, four_steps), (_, two_steps) = points = logged(tmp_path / "run")
    assert [step for step, _ in points] == [4, 8, 10]
    assert all(value > 0 for _, value in points)
    assert result["mfu"] == pytest.approx(6 / (4 / four_steps + 2 / two_steps), rel=1e-2)
    # The vocabulary of the short text is smaller, which changes the head only.
    expected = flops * result["tokens_per_second"] / 1e9
    assert 10 / (4 / compiling + 4 / four_steps + 2 / two_steps) == pytest.approx(expected, rel=0.1)


def test_a_run_without_an_evaluation_in_between_reports_all_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_on("Slow", tmp_path, monkeypatch, "trainer.val_check_interval=10")
    assert logged(tmp_path / "run") == [(10, result["mfu"])]


@pytest.mark.parametrize(
    ("name", "words", "recorded"),
    [
        (None, [], set()),
        ("NVIDIA Unknown", [], {"device", "peak_gpu_memory_mb"}),
        ("Slow", ["model=bigram"], {"device", "peak_gpu_memory_mb"}),
        ("Slow", ["+data.sequence_length_warmup={4: 2}"], {"device", "peak_gpu_memory_mb"}),
    ],
)
def test_a_run_without_a_known_peak_or_count_has_no_utilization(
    name: str | None, words: list[str], recorded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_on(name, tmp_path, monkeypatch, *words)
    assert set(gpu_use.KEYS) & result.keys() == recorded
    assert not logged(tmp_path / "run")


def test_a_run_that_is_resumed_on_a_cpu_does_not_keep_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, killed_at(5):
        run_on("Slow", tmp_path, patch)
    assert read(tmp_path / "run")["device"] == "Slow"
    result = run_on(None, tmp_path, monkeypatch)
    assert result["status"] == "finished"
    assert not set(gpu_use.KEYS) & result.keys()


def test_the_trainer_of_a_cpu_has_no_gpu_use() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert gpu_use.gpu_use(trainer, flops_per_token=1, tokens_per_second=1.0) == {}
