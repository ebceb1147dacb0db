"""The time of a training step of ``gpt`` on a GPU, next to nanoGPT's at the same sizes."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import lightning.pytorch as L
import torch
from hydra.utils import instantiate

from gptladder.model.flops import training_flops_per_token
from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.gpu_use import flops_utilization, peak_flops

from .timing import BASELINES, CORPUS, ROOT, compose_config, run_python, temp_dir

WARMUP = 20  # steps, in which torch.compile compiles


class StepClock(L.Callback):
    """Measures the seconds of a training after its first steps, the GPU's queue included."""

    def __init__(self, *, n_warmup: int) -> None:
        self.n_warmup = n_warmup

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step not in (self.n_warmup, trainer.max_steps):
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step == self.n_warmup:
            self.started = time.perf_counter()
        else:
            self.seconds = time.perf_counter() - self.started


def time_ours(*overrides: str, n_steps: int, n_warmup: int = WARMUP) -> dict[str, Any]:
    """Train with all callbacks and loggers after an evaluation; the time of a step and the peak memory of the GPU.

    The evaluation compiles for its own shapes, as in a run; ``graph_breaks`` says why the network is in several pieces.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with temp_dir() as directory:
        cfg = compose_config(*overrides, f"trainer.max_steps={n_warmup + n_steps}", f"run_dir={directory}")
        torch.manual_seed(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        clock = StepClock(n_warmup=n_warmup)
        trainer = build_trainer(cfg, module, data, Run(cfg.run_dir), callbacks=[clock])
        trainer.validate(module, data, verbose=False)
        trainer.limit_val_batches = 0
        trainer.fit(module, data)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {
        "ms_per_step": 1e3 * clock.seconds / n_steps,
        "peak_gpu_memory_mb": peak // 2**20,
        "graph_breaks": list(torch._dynamo.utils.counters["graph_break"]),
    }


def time_nanogpt(*, compiled: bool, n_steps: int) -> dict[str, Any]:
    """The same of nanoGPT's recipe for a GPU, in a process of its own."""
    mode = () if compiled else ("--eager",)
    arguments = (CORPUS, "--steps", str(n_steps), "--warmup", str(WARMUP), *mode)
    timed: dict[str, Any] = json.loads(run_python(BASELINES / "nanogpt_gpu.py", *arguments, cwd=ROOT)[1])
    return timed


def compare_steps(device: str, *, n_steps: int, pairs: int) -> list[dict[str, Any]]:
    """Both in turn, compiled and eager; medians with tokens/s, MFU, and how many times as long ours takes.

    Args:
        device: the name of the GPU, whose peak gives the MFU.
        n_steps: timed after a warm-up.
        pairs: repetitions.
    """
    rows = []
    for compiled in (True, False):
        words = ("model=gpt", "hardware=mixed", f"hardware.compile={str(compiled).lower()}")
        timed = [
            (time_ours(*words, n_steps=n_steps), time_nanogpt(compiled=compiled, n_steps=n_steps)) for _ in range(pairs)
        ]
        ours, nanogpt = ([pair[i] for pair in timed] for i in (0, 1))
        ratio = statistics.median(a["ms_per_step"] / b["ms_per_step"] for a, b in timed)
        rows.append({"what": "gpt", "compiled": compiled, **summarize(ours, device, count_flops("gpt"))})
        rows.append({"what": "nanoGPT", "compiled": compiled, **summarize(nanogpt, device, count_flops("nanogpt"))})
        breaks = {reason for each in ours for reason in each["graph_breaks"]}
        rows[-2] |= {"times_as_long_as_nanogpt": round(ratio, 3), "graph_breaks": sorted(breaks)}
    return rows


def summarize(timed: list[dict[str, Any]], device: str, flops_per_token: int) -> dict[str, Any]:
    """The medians of some repetitions; ``mfu`` is ``None`` where the peak of the device is not known."""
    ms = statistics.median(each["ms_per_step"] for each in timed)
    cfg = compose_config("model=gpt")
    tokens_per_second = 1e3 / ms * cfg.data.batch_size * cfg.model.block_size
    peak = peak_flops(device)
    options = {"flops_per_token": flops_per_token, "tokens_per_second": tokens_per_second}
    return {
        "ms_per_step": round(ms, 3),
        "ms_per_step_of_each": [round(each["ms_per_step"], 3) for each in timed],
        "tokens_per_second": round(tokens_per_second),
        "mfu": None if peak is None else round(flops_utilization(**options, peak=peak), 4),
        "peak_gpu_memory_mb": max(each["peak_gpu_memory_mb"] for each in timed),
    }


def count_flops(what: str) -> int:
    """The operations per token of ``gpt``, or of nanoGPT's network at its sizes: no biases, tied weights."""
    words = ("model.bias=false", "model.tie_weights=true") if what == "nanogpt" else ()
    cfg = compose_config("model=gpt", *words)
    return training_flops_per_token(instantiate(cfg.model, vocab_size=65), cfg.model.block_size)
