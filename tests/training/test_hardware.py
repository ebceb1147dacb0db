"""Claims about hardware configs, most of which cannot be run on the machine that tests them."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from torch import nn

from gptladder.system.errors import UserError
from gptladder.training import hardware
from helpers.configs import CONF, composed

CHOICES = sorted(path.stem for path in (CONF / "hardware").glob("*.yaml"))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that torch sees two GPUs with bf16, and an Apple one."""
    monkeypatch.setattr(hardware, "_n_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arguments(choice: str, *overrides: str) -> dict[str, Any]:
    described = dict(composed(f"hardware={choice}", *overrides).hardware)
    return hardware.Hardware(
        **{key: value for key, value in described.items() if key != "_target_"}
    ).trainer_arguments()


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("rung", ["multihead", "gpt"])
@pytest.mark.parametrize("choice", CHOICES)
def test_every_hardware_composes_with_every_size_and_says_it_to_the_trainer(choice: str, rung: str) -> None:
    assert set(arguments(choice, f"model={rung}")) == {"accelerator", "devices", "strategy", "precision"}


@pytest.mark.usefixtures("gpus")
def test_the_choices_mean_what_they_are_called() -> None:
    assert arguments("cpu") == {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"}
    assert arguments("gpu")["accelerator"] == "gpu"
    assert arguments("mixed")["precision"] == "bf16-mixed"
    assert arguments("mps")["accelerator"] == "mps"
    assert arguments("ddp") == {"accelerator": "gpu", "devices": "auto", "strategy": "ddp", "precision": "32-true"}
    assert arguments("ddp_cpu") == {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "32-true"}


def test_mixed_is_fp16_on_a_gpu_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_n_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert arguments("mixed")["precision"] == "16-mixed"
    with pytest.raises(UserError, match="no bf16"):
        arguments("gpu", "hardware.precision=bf16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_mixed_is_bf16_on_a_cpu_and_builds_a_trainer() -> None:
    assert arguments("mixed")["precision"] == "bf16-mixed"
    assert Trainer(**arguments("mixed"), logger=False, enable_checkpointing=False).precision == "bf16-mixed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("choice", ["gpu", "ddp"])
def test_a_gpu_that_is_not_there_is_a_mistake(choice: str) -> None:
    with pytest.raises(UserError, match="hardware=cpu"):
        arguments(choice)


@pytest.mark.usefixtures("gpus")
def test_more_gpus_than_there_are_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"hardware\.devices=3"):
        arguments("ddp", "hardware.devices=3")


@pytest.mark.parametrize(
    "override", ["precision=12", "precision=16-mixed", "threads=0", "threads=many", "accelerator=tpu"]
)
def test_what_the_hardware_has_not_is_named(override: str) -> None:
    with pytest.raises(UserError, match=f"hardware.{override}"):
        arguments("cpu", f"hardware.{override}")


def test_small_rungs_get_one_thread_and_large_ones_every_core() -> None:
    cpu = instantiate(composed("hardware=cpu").hardware)
    cpu.prepare(nn.Linear(10, 10))
    assert torch.get_num_threads() == 1
    cpu.prepare(nn.Linear(1000, 1000))
    assert torch.get_num_threads() == hardware._n_cores()


def test_compiling_renames_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    instantiate(composed("hardware=cpu", "hardware.compile=true").hardware).prepare(net)
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert net._compiled_call_impl is not None


def test_evaluations_run_side_by_side_only_where_training_leaves_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_n_cores", lambda: 4)
    small, large = nn.Linear(10, 10), nn.Linear(1000, 1000)

    def side_by_side(net: nn.Module, *overrides: str) -> int:
        return int(instantiate(composed(*overrides).hardware).side_by_side(net))

    assert side_by_side(small, "hardware=cpu") == 4
    assert side_by_side(large, "hardware=cpu") == 1
    for setting in ("threads=1", "precision=bf16-mixed", "compile=true", "devices=2"):
        assert side_by_side(small, "hardware=cpu", f"hardware.{setting}") == 1
