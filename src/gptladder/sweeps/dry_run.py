"""Dry run of a sweep: build every job, send one batch through each, and estimate its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gptladder.model.gpt import count_parameters
from gptladder.model.loss import next_token_loss
from gptladder.runs.run import Run
from gptladder.sweeps.jobs import Job, label_jobs
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
    """Build every job, print what it will cost as soon as that is known, and train none.

    Args:
        n_workers: how many jobs the launcher runs side by side.

    Raises:
        SweepError: lists every job that has an error.
    """
    console = Console()
    labels = label_jobs(jobs)
    console.print(f"{len(jobs)} job{'s'[: len(jobs) != 1]}, nothing trained", highlight=False)
    _print_row(console, "parameters", "steps", "time", "job", style="dim")
    errors, times = [], []
    for number, (job, label) in enumerate(zip(jobs, labels, strict=True), start=1):
        with console.status(f"job {number} of {len(jobs)}: {escape(label)}"):
            try:
                params, steps, seconds = estimate_cost(job)
            except Exception as error:
                errors.append(f"  {label}: {_root_cause(error)}")
                _print_row(console, "", "", "ERROR", label, style="red")
                continue
        times.append(seconds)
        _print_row(console, f"{params:,}", f"{steps:,}", format_duration(seconds), label)
    _print_row(console, "", "", format_duration(sum(times)), "in total, one after another", style="bold")
    if n_workers > 1 and len(times) > 1:
        together = format_duration(seconds_side_by_side(times, n_workers=n_workers))
        _print_row(console, "", "", together, f"in total, {n_workers} side by side", style="bold")
    if errors:
        raise SweepError(f"{len(errors)} of {len(jobs)} jobs have an error:\n" + "\n".join(errors))


def _print_row(console: Console, params: str, steps: str, time: str, job: str, style: str = "") -> None:
    """The name comes last: however long it is, no number is cut."""
    console.print(Text(f"{params:>12}  {steps:>9}  {time:>12}   {job}", style), soft_wrap=True)


def seconds_side_by_side(times: list[float], *, n_workers: int) -> float:
    """How long jobs take of which ``n_workers`` run at the same time, each as soon as a worker is free.

    As in a sweep, the last job is started first.
    """
    busy_until = [0.0] * n_workers
    for seconds in reversed(times):
        busy_until[busy_until.index(min(busy_until))] += seconds
    return max(busy_until)


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
    shapes = []
    evaluation = _seconds(lambda: shapes.append(tuple(module(x).shape)), no_grad=True)
    if shapes[0] != (*x.shape, data.tokenizer.vocab_size):
        raise UserError(f"model={cfg.rung} gives logits of shape {shapes[0]} for a batch of {tuple(x.shape)}")
    assert module.optimizer_factory is not None
    optimizer = module.optimizer_factory(module.net.named_parameters())

    def step() -> None:
        optimizer.zero_grad()
        next_token_loss(module(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    training = _seconds(step)
    if training < SLOW_STEP:  # else the first step, which also allocates memory, is the only one that is timed
        training, evaluation = _seconds(step, TIMED_STEPS), _seconds(lambda: module(x), TIMED_STEPS, no_grad=True)
    steps = cfg.trainer.max_steps * cfg.trainer.accumulate_grad_batches
    n_evaluations = 2 + (cfg.trainer.max_steps - 1) // cfg.trainer.val_check_interval
    n_batches = 2 * cfg.data.estimate_batches + len(data.val_tokens) / y.numel()
    seconds = steps * training + n_evaluations * n_batches * evaluation
    return CostEstimate(count_parameters(module.net), cfg.trainer.max_steps, seconds)


def _seconds(work: Callable[[], object], times: int = 1, *, no_grad: bool = False) -> float:
    """The mean seconds of some calls."""
    with torch.set_grad_enabled(not no_grad):
        started = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - started) / times


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
