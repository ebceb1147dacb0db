"""Dry run of a sweep: build every job, send one batch through each, and estimate its time."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gptladder.model.gpt import count_parameters
from gptladder.model.loss import next_token_loss
from gptladder.runs.run import Run
from gptladder.sweeps.jobs import Job
from gptladder.system.errors import SweepError, UserError, first_line
from gptladder.system.units import format_duration
from gptladder.training.build import build_datamodule, build_module, build_trainer

TIMED_STEPS = 5
SLOW_STEP = 1.0  # seconds; of steps that take longer one is timed


class CostEstimate(NamedTuple):
    """Parameters, steps, and estimated seconds of a job."""

    params: int
    steps: int
    seconds: float


def print_dry_run(jobs: list[Job], *, n_workers: int) -> None:
    """Build every job, print what each will cost, and train none.

    Args:
        n_workers: how many jobs the launcher runs side by side.

    Raises:
        SweepError: lists every job that has an error.
    """
    console = Console()
    table = Table(title=f"{len(jobs)} jobs, nothing trained")
    for name in ("job", "parameters", "steps", "time"):
        table.add_column(name, justify="left" if name == "job" else "right")
    errors, times = [], []
    for number, job in enumerate(jobs, start=1):
        with console.status(f"job {number} of {len(jobs)}: {escape(job.directory.name)}"):
            try:
                params, steps, seconds = estimate_cost(job)
            except Exception as error:
                errors.append(f"  {job.directory.name}: {_root_cause(error)}")
                table.add_row(Text(job.directory.name), "", "", "ERROR", style="red")
                continue
        times.append(seconds)
        table.add_row(Text(job.directory.name), f"{params:,}", f"{steps:,}", format_duration(seconds))
    table.add_section()
    table.add_row("total, one after another", "", "", format_duration(sum(times)))
    if n_workers > 1 and len(times) > 1:
        together = max(*times, sum(times) / n_workers)
        table.add_row(f"total, {n_workers} side by side", "", "", format_duration(together))
    console.print(table)
    if errors:
        raise SweepError(f"{len(errors)} of {len(jobs)} jobs have an error:\n" + "\n".join(errors))


def estimate_cost(job: Job) -> CostEstimate:
    """Build a job, send one batch through it, and time a few steps and a part of an evaluation."""
    if job.error is not None or job.config is None:
        raise UserError(job.error)
    cfg: DictConfig = job.config
    cfg.run_dir = str(job.directory)
    torch.manual_seed(cfg.seed)
    data = build_datamodule(cfg)
    module = build_module(cfg, data)
    build_trainer(cfg, module, data, Run(job.directory))
    x, y = next(data.train_batches())
    shape = tuple(module(x).shape)
    if shape != (*x.shape, data.tokenizer.vocab_size):
        raise UserError(f"model={cfg.rung} gives logits of shape {shape} for a batch of {tuple(x.shape)}")
    assert module.optimizer_factory is not None
    optimizer = module.optimizer_factory(module.net.named_parameters())

    def step() -> None:
        optimizer.zero_grad()
        next_token_loss(module(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    first = _seconds(step, 1)  # it allocates, too
    n_timed = 1 if first > SLOW_STEP else TIMED_STEPS
    steps = cfg.trainer.max_steps * cfg.trainer.accumulate_grad_batches
    evaluations = 2 + (cfg.trainer.max_steps - 1) // cfg.trainer.val_check_interval
    with torch.no_grad():
        per_token = _seconds(lambda: next_token_loss(module(x), y), n_timed) / y.numel()
    measured = 2 * cfg.data.estimate_batches * y.numel() + len(data.val_tokens)
    seconds = steps * (first if n_timed == 1 else _seconds(step, n_timed)) + evaluations * measured * per_token
    return CostEstimate(count_parameters(module.net), cfg.trainer.max_steps, seconds)


def _seconds(work: object, times: int) -> float:
    assert callable(work)
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
