"""The hardware of a run: accelerator, devices, precision, threads."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from torch import nn

from gptladder.model.gpt import count_parameters
from gptladder.system.errors import UserError

# With fewer parameters a second thread waits longer than it computes.
MIN_PARAMS_FOR_THREADS = 1_000_000

PRECISIONS = ("32-true", "64-true", "bf16-true", "16-mixed", "bf16-mixed", "mixed")


class Hardware:
    """The accelerator, devices, precision, compilation and threads of a run.

    Args:
        accelerator: ``cpu``, ``gpu`` (CUDA) or ``mps``; ``auto`` uses the best one available.
        devices: how many, or ``auto`` for all.
        strategy: Lightning's, such as ``auto`` or ``ddp``.
        precision: Lightning's, or ``mixed``: bf16 where the hardware has it, fp16 otherwise.
        compile: compile the network with ``torch.compile``; ``auto`` does so for large ones on a CUDA GPU. Checkpoints
            stay portable.
        threads: PyTorch's threads on the CPU; ``auto`` is one for small rungs and one per core for large ones, and
            evaluates small rungs on every core with the same bits; next to a GPU it is one. The last bits of a result
            depend on the number, so that it is recorded.

    Raises:
        UserError: the machine lacks the accelerator, has too few devices, or lacks the precision.
    """

    def __init__(
        self,
        *,
        accelerator: Literal["auto", "cpu", "gpu", "mps"],
        devices: int | Literal["auto"],
        strategy: str,
        precision: str,
        compile: bool | Literal["auto"],
        threads: int | Literal["auto"],
    ) -> None:
        if accelerator == "auto":
            accelerator = "gpu" if _n_gpus() else "mps" if torch.backends.mps.is_available() else "cpu"
        _check_accelerator(accelerator, devices)
        if precision not in PRECISIONS:
            raise UserError(f"hardware.precision={precision} must be one of {', '.join(PRECISIONS)}")
        if any(word in strategy for word in ("spawn", "fork", "notebook")):
            raise UserError(f"hardware.strategy={strategy} starts processes from this one, which trains: use ddp")
        if compile != "auto" and type(compile) is not bool:
            raise UserError(f"hardware.compile={compile} must be auto, true or false")
        if threads != "auto" and (not isinstance(threads, int) or threads < 1):
            raise UserError(f"hardware.threads={threads} must be auto or an integer >= 1")
        self.accelerator = accelerator
        self.devices = devices
        self.strategy = strategy
        self.precision = _precision(precision, accelerator)
        self.compile = compile
        self.threads = threads

    def trainer_kwargs(self) -> dict[str, Any]:
        """The arguments of Lightning's ``Trainer`` for the hardware."""
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "strategy": self.strategy,
            "precision": self.precision,
        }

    def configure(self, net: nn.Module) -> None:
        """Set the number of threads for a network's size, and compile it where that is chosen."""
        computes = self.accelerator == "cpu"  # next to a GPU the CPU only draws batches
        n_threads = _n_cores() if computes and not _is_small(net) else 1
        torch.set_num_threads(n_threads if self.threads == "auto" else self.threads)
        if self.compiles(net):
            # PyTorch compiles for a few shapes per function, and those of earlier networks would count.
            torch.compiler.reset()
            # In place: `torch.compile(net)` would rename every weight in the checkpoints. Each shape of its own: with
            # shapes that may vary, an evaluation would change how later training steps compute.
            net.compile(dynamic=False)

    def compiles(self, net: nn.Module) -> bool:
        """Whether a network is compiled."""
        if self.compile == "auto":
            return self.accelerator == "gpu" and not _is_small(net)
        return self.compile

    def evaluation_threads(self, net: nn.Module) -> int:
        """How many batches an evaluation may compute in parallel: one per core that training leaves idle."""
        # Autocast and compiler state are thread-local.
        plain = self.accelerator == "cpu" and self.precision == "32-true" and not self.compiles(net)
        return _n_cores() if plain and self.devices == 1 and self.threads == "auto" and _is_small(net) else 1


def _check_accelerator(accelerator: str, devices: int | str) -> None:
    if accelerator == "cpu" and devices != "auto" and (type(devices) is not int or devices < 1):
        raise UserError(f"hardware.devices={devices} must be an integer >= 1 on a CPU, or auto")
    if accelerator == "gpu" and not _n_gpus():
        raise UserError("hardware.accelerator=gpu, but PyTorch finds no CUDA GPU here: use hardware=cpu")
    if accelerator == "gpu" and isinstance(devices, int) and devices > _n_gpus():
        raise UserError(f"hardware.devices={devices}, but PyTorch finds {_n_gpus()} here: use at most that many")
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise UserError("hardware.accelerator=mps, but this is not an Apple GPU: use hardware=cpu")
    if accelerator not in ("cpu", "gpu", "mps"):
        raise UserError(f"hardware.accelerator={accelerator} must be auto, cpu, gpu or mps")


def _precision(precision: str, accelerator: str) -> str:
    has_bf16 = accelerator == "cpu" or (accelerator == "gpu" and torch.cuda.is_bf16_supported())
    if precision == "mixed":
        return "bf16-mixed" if has_bf16 else "16-mixed"
    if precision.startswith("bf16") and not has_bf16:
        raise UserError(f"hardware.precision={precision}, but this {accelerator} has no bf16: use mixed or 32-true")
    if precision == "16-mixed" and accelerator == "cpu":
        raise UserError("hardware.precision=16-mixed, but a CPU has no fp16 arithmetic: use mixed or 32-true")
    return precision


def _is_small(net: nn.Module) -> bool:
    return count_parameters(net) < MIN_PARAMS_FOR_THREADS


def _n_gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
