"""What the framework costs and what it saves: ``python scripts/benchmark.py [--only step|ladder]``.

``step``: the same net, batches and optimizer, once in a bare loop and once through Lightning with the progress bar,
TensorBoard, ``metrics.csv`` and all callbacks on. The two take turns; the ratio is the median of the pairs.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from gptladder.assembly import build_data, build_learner, build_trainer
from gptladder.callbacks.progress import Progress
from gptladder.loss import next_token_loss
from gptladder.published import published
from gptladder.run import Run

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
CORPUS = resources.files("gptladder.corpus") / "tinyshakespeare.txt"


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
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner, Run(cfg.run_dir))
    watch = Stopwatch()
    trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Progress):
            callback.console = Console(file=StringIO(), force_terminal=True)
    trainer.limit_val_batches = 0
    trainer.fit(learner, data)
    return watch.seconds


def bare(cfg: DictConfig) -> float:
    """Seconds of the same steps in a loop of five lines."""
    torch.manual_seed(cfg.seed)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    instantiate(cfg.hardware).prepare(learner.net)
    optimizer = learner.build_optimizer(learner.net.named_parameters())
    blocks = iter(data.train_blocks())
    started = time.perf_counter()
    for _ in range(cfg.trainer.max_steps):
        loss = next_token_loss(learner.net, next(blocks))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - started


def main() -> None:
    """Print the measures that were asked for."""
    parser = argparse.ArgumentParser(description="What the framework costs, and what it saves.")
    parser.add_argument("--only", choices=MEASURES, help="one measure instead of all")
    parser.add_argument("--rungs", nargs="+", default=["bigram", "layernorm"], help="for the measure of a step")
    parser.add_argument("--steps", type=int, default=2000, help="for the measure of a step")
    parser.add_argument("--pairs", type=int, default=5, help="how often the two take turns")
    arguments = parser.parse_args()
    for name, measure in MEASURES.items():
        if arguments.only in (None, name):
            Console().print(measure(arguments))


def step(arguments: argparse.Namespace) -> Table:
    """Milliseconds a step and their ratio, for a rung that costs nothing and one that costs something."""
    table = Table(title=f"milliseconds a step, median of {arguments.pairs} pairs of {arguments.steps} steps")
    for name in ("rung", "bare loop", "through Lightning", "difference", "ratio"):
        table.add_column(name, justify="left" if name == "rung" else "right")
    for rung in arguments.rungs:
        pairs = [_pair(rung, arguments.steps) for _ in range(arguments.pairs)]
        loop, lightning = (1e3 * statistics.median(times) / arguments.steps for times in zip(*pairs, strict=True))
        ratio = statistics.median(b / a for a, b in pairs)
        table.add_row(rung, f"{loop:.3f}", f"{lightning:.3f}", f"{lightning - loop:.3f}", f"{ratio:.2f}")
    return table


def ladder(arguments: argparse.Namespace) -> Table:
    """Seconds of the eight published rungs, from process start to table, beside the lecture's plain loop."""
    rungs = [rung for rung in published() if rung != "gpt"]
    with tempfile.TemporaryDirectory() as directory, resources.as_file(CORPUS) as text:
        ours = _process("train.py", "experiment=ladder", f"model={','.join(rungs)}", cwd=directory)
        plain = _process("scripts/baselines/lecture.py", str(text), *rungs, cwd=directory)
    table = Table(title="seconds for the eight published rungs, from process start to table, one run each")
    for name in ("experiment=ladder", "the lecture's plain loop", "ratio"):
        table.add_column(name, justify="right")
    table.add_row(f"{ours:.0f}", f"{plain:.0f}", f"{plain / ours:.2f}")
    return table


MEASURES = {"step": step, "ladder": ladder}


def _process(script: str, *words: str, cwd: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / script), *words], cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - started


def _pair(rung: str, steps: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory, initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"model={rung}", f"trainer.max_steps={steps}", f"run_dir={directory}"])
        return bare(cfg), through_lightning(cfg)


if __name__ == "__main__":
    main()
