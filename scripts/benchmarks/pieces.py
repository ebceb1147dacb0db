"""What each piece of ``gptladder.fast`` saves: a run with all of them against the same run without one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from gptladder.fast.adamw import FusedAdamWStep
from gptladder.fast.evaluation_loop import FastEvaluationLoop
from gptladder.fast.training_loop import FastTrainingEpochLoop
from gptladder.runs.run import Run
from gptladder.training import speed
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.fit import fit
from gptladder.training.hardware import Hardware

from .timing import BenchmarkRow, compose_config, temp_dir

RUNGS = ("bigram", "multihead", "layernorm")
STEPS = 1000

PIECES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "several steps per loop iteration": lambda: patch.object(
        FastTrainingEpochLoop, "advance", _TrainingEpochLoop.advance
    ),
    "AdamW with one step counter": lambda: patch.object(FusedAdamWStep, "supports", lambda optimizer: False),
    "batches drawn in one call": lambda: patch.object(
        FastTrainingEpochLoop, "_batches", lambda self, net, n: iter(self.trainer.train_dataloader.batches)
    ),
    "Numba attention": lambda: patch.object(speed, "use_fast_kernels", lambda net, fast: None),
    "compiled steps and evaluations": lambda: patch("gptladder.fast.numba_gpt.use_numba_gpt", lambda net: None),
    "steps without autograd": lambda: patch(
        "gptladder.fast.numba_gpt.NumbaGPT.gradients_without_autograd", lambda self: None
    ),
    "evaluation without bookkeeping per batch": lambda: patch.object(FastEvaluationLoop, "run", _EvaluationLoop.run),
    "evaluation on idle cores": lambda: patch.object(Hardware, "evaluation_threads", lambda self, net: 1),
}


def benchmark_pieces(pairs: int) -> Iterator[BenchmarkRow]:
    """Seconds of a training with evaluations, without start-up."""
    for rung in RUNGS:
        for piece, disabled in PIECES.items():
            times = [(_seconds(rung), _seconds(rung, disabled)) for _ in range(pairs)]
            a, b = (statistics.median(seconds) for seconds in zip(*times, strict=True))
            saved = statistics.median(1 - with_piece / without for with_piece, without in times)
            yield BenchmarkRow(
                f"{rung}: {piece}", f"{a:.2f} s", f"{b:.2f} s without", f"{100 * saved:.1f} % saved", "3 %"
            )


def _seconds(rung: str, disabled: Callable[[], AbstractContextManager[object]] = nullcontext) -> float:
    with temp_dir() as directory, disabled():
        options = (f"model={rung}", f"trainer.max_steps={STEPS}", f"run_dir={directory}", "callbacks.progress=null")
        cfg = compose_config(*options)
        run = Run(Path(directory))
        torch.manual_seed(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        trainer = build_trainer(cfg, module, data, run)
        started = time.perf_counter()
        with run.recording():
            fit(trainer, module, data, run)
        return time.perf_counter() - started
