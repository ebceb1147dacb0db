"""The time that Lightning, callbacks and loggers add to a training step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from io import StringIO
from typing import Any

import lightning.pytorch as L
import torch
from omegaconf import DictConfig
from rich.console import Console

from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.callbacks.progress import Progress

from .bare_loop import build_bare_loop
from .timing import BenchmarkRow, compose_config, temp_dir

STEPS = 2000
RUNGS = ("bigram", "layernorm")


def benchmark_step(pairs: int) -> Iterator[BenchmarkRow]:
    """The same network, batches and optimizer in a bare loop, and in Lightning with all callbacks and loggers."""
    for rung in RUNGS:
        times = [_time_pair(rung) for _ in range(pairs)]
        ours, bare = (1e3 * statistics.median(seconds) / STEPS for seconds in zip(*times, strict=True))
        added = statistics.median(1e3 * (a - b) / STEPS for a, b in times)
        target = "at most 0.15 ms more" if rung == "bigram" else "-"
        yield BenchmarkRow(
            f"a step of {rung}", f"{ours:.3f} ms", f"{bare:.3f} ms, bare loop", f"{added:+.3f} ms", target
        )


class Stopwatch(L.Callback):
    """Measures the seconds from the first step to the last."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps:
            self.seconds = time.perf_counter() - self.started


def time_lightning(cfg: DictConfig) -> float:
    """Train for ``max_steps`` steps without any evaluation; return the seconds."""
    torch.manual_seed(cfg.seed)
    data = build_datamodule(cfg)
    module = build_module(cfg, data)
    trainer = build_trainer(cfg, module, data, Run(cfg.run_dir))
    stopwatch = Stopwatch()
    trainer.callbacks.insert(0, stopwatch)  # type: ignore[attr-defined]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Progress):
            callback.console = Console(file=StringIO(), force_terminal=True)
    trainer.limit_val_batches = 0
    trainer.fit(module, data)
    return stopwatch.seconds


def _time_pair(rung: str) -> tuple[float, float]:
    with temp_dir() as directory:
        cfg = compose_config(f"model={rung}", f"trainer.max_steps={STEPS}", f"run_dir={directory}")
        return time_lightning(cfg), build_bare_loop(cfg)(STEPS)
