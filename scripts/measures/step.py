"""What Trainer, callbacks and loggers add to a step."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from io import StringIO
from typing import Any

import lightning.pytorch as L
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console

from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.callbacks.progress import Progress

from .loop import bare_loop
from .pairs import ROOT, Row, elsewhere

STEPS = 2000
RUNGS = ("bigram", "layernorm")


def measure(arguments: Namespace) -> Iterator[Row]:
    """The same net, batches and optimizer in a bare loop, and through Lightning with everything switched on."""
    for rung in RUNGS:
        pairs = [_pair(rung) for _ in range(arguments.pairs)]
        ours, bare = (1e3 * statistics.median(times) / STEPS for times in zip(*pairs, strict=True))
        added = statistics.median(1e3 * (a - b) / STEPS for a, b in pairs)
        target = "at most 0.15 ms more" if rung == "bigram" else "—"
        yield Row(f"a step of {rung}", f"{ours:.3f} ms", f"{bare:.3f} ms, bare loop", f"{added:+.3f} ms", target)


class Stopwatch(L.Callback):
    """Seconds from the first step to the last."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps:
            self.seconds = time.perf_counter() - self.started


def through_lightning(cfg: DictConfig) -> float:
    """Seconds of ``max_steps`` steps in the Trainer, without a single evaluation."""
    torch.manual_seed(cfg.seed)
    data = build_datamodule(cfg)
    learner = build_module(cfg, data)
    trainer = build_trainer(cfg, data, learner, Run(cfg.run_dir))
    watch = Stopwatch()
    trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Progress):
            callback.console = Console(file=StringIO(), force_terminal=True)
    trainer.limit_val_batches = 0
    trainer.fit(learner, data)
    return watch.seconds


def _pair(rung: str) -> tuple[float, float]:
    with elsewhere() as directory, initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={rung}", f"trainer.max_steps={STEPS}", f"run_dir={directory}"])
        return through_lightning(cfg), bare_loop(cfg)(STEPS)
