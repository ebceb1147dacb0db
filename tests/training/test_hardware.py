"""Hardware configs; most of the hardware is simulated, because the machine of the tests does not have it."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from torch import nn

from gptladder.system.errors import UserError
from gptladder.training import hardware
from helpers.configs import CONF, composed, trained

CHOICES = sorted(path.stem for path in (CONF / "hardware").glob("*.yaml"))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch find two GPUs with bf16, and an Apple GPU."""
    monkeypatch.setattr(hardware, "_n_gpus", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trainer_kwargs(choice: str, *overrides: str) -> dict[str, Any]:
    options = dict(composed(f"hardware={choice}", *overrides).hardware)
    return hardware.Hardware(**{key: value for key, value in options.items() if key != "_target_"}).trainer_kwargs()


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("rung", ["multihead", "gpt"])
@pytest.mark.parametrize("choice", CHOICES)
def test_every_hardware_config_is_composed_with_every_size_and_configures_a_network(choice: str, rung: str) -> None:
    cfg = composed(f"hardware={choice}", f"model={rung}")
    assert cfg.hardware == composed(f"hardware={choice}").hardware
    machine = instantiate(cfg.hardware)
    net = nn.Linear(2, 2)
    machine.configure(net)
    assert net._compiled_call_impl is None  # it is small
    kwargs = machine.trainer_kwargs()
    assert kwargs.keys() <= inspect.signature(Trainer).parameters.keys()
    assert kwargs["devices"] == cfg.hardware.devices
    assert kwargs["accelerator"] == {"auto": "gpu"}.get(cfg.hardware.accelerator, cfg.hardware.accelerator)


@pytest.mark.usefixtures("gpus")
def test_each_choice_sets_what_its_name_says() -> None:
    assert trainer_kwargs("cpu") == {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"}
    assert trainer_kwargs("gpu")["accelerator"] == "gpu"
    assert trainer_kwargs("mixed")["precision"] == "bf16-mixed"
    assert trainer_kwargs("mps")["accelerator"] == "mps"
    assert trainer_kwargs("ddp") == {"accelerator": "gpu", "devices": "auto", "strategy": "ddp", "precision": "32-true"}
    assert trainer_kwargs("ddp_cpu") == {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "precision": "32-true"}


def test_mixed_is_fp16_on_a_gpu_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_n_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert trainer_kwargs("mixed")["precision"] == "16-mixed"
    with pytest.raises(UserError, match="no bf16"):
        trainer_kwargs("gpu", "hardware.precision=bf16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_mixed_is_bf16_on_a_cpu() -> None:
    assert trainer_kwargs("mixed")["precision"] == "bf16-mixed"
    assert Trainer(**trainer_kwargs("mixed"), logger=False, enable_checkpointing=False).precision == "bf16-mixed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("choice", ["gpu", "ddp"])
def test_a_missing_gpu_is_a_user_error(choice: str) -> None:
    with pytest.raises(UserError, match="hardware=cpu"):
        trainer_kwargs(choice)


@pytest.mark.usefixtures("gpus")
def test_more_gpus_than_available_are_a_user_error() -> None:
    with pytest.raises(UserError, match=r"hardware\.devices=3"):
        trainer_kwargs("ddp", "hardware.devices=3")


@pytest.mark.parametrize(
    "override",
    ["precision=12", "precision=16-mixed", "threads=0", "threads=many", "accelerator=tpu", "compile=1", "compile=no"],
)
def test_unsupported_hardware_is_a_user_error(override: str) -> None:
    with pytest.raises(UserError, match=f"hardware.{override}"):
        trainer_kwargs("cpu", f"hardware.{override}")


def test_small_rungs_get_one_thread_and_large_ones_every_core() -> None:
    cpu = instantiate(composed("hardware=cpu").hardware)
    cpu.configure(nn.Linear(10, 10))
    assert torch.get_num_threads() == 1
    cpu.configure(nn.Linear(1000, 1000))
    assert torch.get_num_threads() == hardware._n_cores()


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("choice", ["gpu", "mixed", "ddp"])
def test_next_to_a_gpu_large_networks_are_compiled_and_one_thread_draws_batches(choice: str) -> None:
    machine = instantiate(composed(f"hardware={choice}").hardware)
    large = nn.Linear(1000, 1000)
    machine.configure(large)
    assert large._compiled_call_impl is not None
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_mixed_precision_on_a_cpu_compiles_nothing() -> None:
    machine = instantiate(composed("hardware=mixed").hardware)
    assert not machine.compiles(nn.Linear(1000, 1000))


def test_each_network_is_compiled_once_for_each_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[list[torch.SymInt | int]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        shapes.append([size for each in inputs for size in each.shape])
        return graph.forward

    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    few = ("data.batch_size=4", "data.estimate_batches=2", "trainer.max_steps=4", "trainer.val_check_interval=2")
    for n_embd in (8, 16):
        words = ("model=embedding", f"model.n_embd={n_embd}", "model.n_layer=1", *few, "logger=none")
        trained(tmp_path / str(n_embd), *words, "hardware.compile=true")
    assert not torch._dynamo.utils.counters["graph_break"]
    assert all(type(size) is int for each in shapes for size in each)
    # the training step, an estimate, and of the exact loss: full batches, the rest, the end
    assert len(shapes) == 2 * 5
    torch.compiler.reset()


def test_compiling_renames_no_weight() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    instantiate(composed("hardware=cpu", "hardware.compile=true").hardware).configure(net)
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert net._compiled_call_impl is not None


def test_evaluations_use_several_threads_only_where_training_leaves_cores_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_n_cores", lambda: 4)
    small, large = nn.Linear(10, 10), nn.Linear(1000, 1000)

    def threads(net: nn.Module, *overrides: str) -> int:
        return int(instantiate(composed(*overrides).hardware).evaluation_threads(net))

    assert threads(small, "hardware=cpu") == 4
    assert threads(large, "hardware=cpu") == 1
    for setting in ("threads=1", "precision=bf16-mixed", "compile=true", "devices=2"):
        assert threads(small, "hardware=cpu", f"hardware.{setting}") == 1
