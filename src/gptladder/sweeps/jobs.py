"""The jobs of a sweep: one directory per job, trained once, and recorded also when it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf

from gptladder.data.text import open_corpus
from gptladder.runs.config_types import check_config
from gptladder.runs.configs import load_config, recorded_choices
from gptladder.runs.identity import diff_identity
from gptladder.runs.naming import job_label, job_name, key_of, quote_override, varying_keys
from gptladder.runs.run import ENDED, Run, checkpoint_path, error_summary
from gptladder.system.errors import RunLockedError, SweepError, UserError

# The parts of a config from which a run's identity is computed; the rest may change between two launches of a sweep.
IDENTITY_KEYS = (
    "seed",
    "rung_lr",
    "evaluate_first",
    "tokenizer",
    "data",
    "model",
    "optimizer",
    "scheduler",
    "trainer",
    "hardware",
    "callbacks",
)


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its overrides and directory, and its config, or the error that prevents it."""

    number: int
    rung: str
    seed: Any
    overrides: list[str]
    directory: Path
    config: DictConfig | None
    choices: dict[str, Any]
    error: str | None

    def prepare(self, *, fresh: bool) -> bool:
        """Record the job as pending; returns whether it must be launched.

        Raises:
            UserError: the directory holds a finished run of another config.
        """
        try:
            with Run(self.directory).locked():
                return self._prepare(fresh=fresh)
        except RunLockedError:  # another sweep runs it
            return False

    def _prepare(self, *, fresh: bool) -> bool:
        if fresh:
            _clear(self.directory)
        run = Run(self.directory)
        if run.complete:
            try:
                self._check_same()
            except (LookupError, OSError, ValueError, TypeError) as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise UserError(
                    f"{self.directory} holds a damaged run ({reason}): use fresh=true to train it again"
                ) from None
            run.write(job=self.number)
            return False
        pending = {"status": "pending", "error": None, "model": self.rung, "seed": self.seed}
        run.write(**{**pending, **run.result, "job": self.number})
        if self.error is not None:
            run.write(status="failed", error=self.error)
        return self.error is None

    def _check_same(self) -> None:
        if self.config is None:
            raise UserError(f"{self.directory} holds a finished run, but now {self.error}")
        result = Run.read(self.directory)
        corpus_sha256 = result["corpus_sha256"]
        recorded = load_config(self.directory / ".hydra" / "config.yaml")
        current = OmegaConf.to_container(self.config)
        path = self.config.data.path
        changes = diff_identity(
            _metadata(recorded, recorded_choices(self.directory), corpus_sha256),
            _metadata(current, self.choices, corpus_sha256 if path is None else open_corpus(path).sha256),
        )
        if (result["model"], result["seed"]) != (self.rung, self.seed):
            changes.append(f"its result is of {result['model']}, seed {result['seed']}")
        if self._has_other_initial_weights():
            changes.append(f"init_from={self.config.init_from} has other weights now")
        if changes:
            raise UserError(
                f"{self.directory} holds a finished run, and {'; '.join(changes)}: "
                "use fresh=true to train it again, or sweep=NAME to keep both"
            )

    def _has_other_initial_weights(self) -> bool:
        """Whether the run that ``init_from`` names has changed; one that is gone cannot be compared."""
        if self.config is None or not self.config.init_from:
            return False
        from gptladder.runs.checkpoint import read_checkpoint  # imports torch
        from gptladder.runs.init_from import fingerprint_of

        try:
            recorded = read_checkpoint(checkpoint_path(self.directory))["gptladder"]["config"]["init_from"]
            return bool(fingerprint_of(str(self.config.init_from), self.choices.get("tokenizer")) != recorded["sha256"])
        except UserError:
            return False


def compose_job(
    number: int,
    overrides: list[str],
    compose: Callable[[list[str]], DictConfig],
    error_message: Callable[[Exception], str | None],
) -> Job:
    """Compose one job of a sweep, as far as that is possible.

    Args:
        compose: composes a config from overrides.
        error_message: a sentence for a user error, ``None`` for any other.
    """
    choices: dict[str, Any] = {}
    settings = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    try:
        config, message = compose(overrides), None
        check_config(cast(dict[str, Any], OmegaConf.to_container(config)))
        rung, seed, sweep_dir = config.rung, config.seed, config.hydra.sweep.dir
        choices = {group: choice for group, choice in config.hydra.runtime.choices.items() if "/" not in group}
        config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    except Exception as error:
        config, message = None, _message(error, error_message)
        rung, seed = settings.get("model", "unknown"), settings.get("seed")
        sweep_dir = compose([override for override in overrides if override.startswith("sweep=")]).hydra.sweep.dir
    name = job_name(rung, overrides)
    return Job(
        number=number,
        rung=rung,
        seed=seed,
        overrides=[*overrides, f"hydra.sweep.subdir={quote_override(name)}"],
        directory=Path(sweep_dir) / name,
        config=config,
        choices=choices,
        error=message,
    )


def label_jobs(jobs: list[Job]) -> list[str]:
    """Labels of jobs for people: the rung, and the overrides in which the jobs differ, ``layernorm-lr0.01 seed 2``."""
    varying = set(varying_keys([job.overrides for job in jobs])) - {"hydra.sweep.subdir"}
    shown = varying - {"seed"}
    return [
        job_label(job.rung, [word for word in job.overrides if key_of(word) in shown])
        + (f" seed {job.seed}" if "seed" in varying else "")
        for job in jobs
    ]


def raise_if_all_invalid(jobs: list[Job]) -> None:
    """Raise the error of the first job if every job has one: then there is nothing to launch or to record."""
    if all(job.error is not None for job in jobs):
        raise UserError(jobs[0].error)


def check_directories(jobs: list[Job]) -> None:
    """Check that no two jobs share a directory: one would pass the other's result off as its own.

    Raises:
        UserError: names both jobs.
    """
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.directory, job)
        if other is job:
            continue
        here, there = (set(each.overrides) - set(those.overrides) for each, those in ((other, job), (job, other)))
        pair = f"{' '.join(sorted(here))} and {' '.join(sorted(there))}" if here else "the same job twice"
        raise UserError(
            f"{job.directory} would hold two jobs, {pair}: give their configs different names (rung: NAME), or start "
            "them as sweeps of their own (sweep=NAME)"
        )


def collect_results(jobs: list[Job]) -> list[dict[str, Any]]:
    """The results of a sweep.

    Raises:
        SweepError: lists every job that did not finish, and why.
    """
    left = unfinished(jobs)
    if left:
        raise SweepError(left)
    return [Run.read(job.directory) for job in jobs]


def unfinished(jobs: list[Job]) -> str:
    """One line per job that did not finish, with its status and error; empty if all did."""
    runs = [Run(job.directory) for job in jobs]
    left = [run for run in runs if run.status not in ENDED]
    if not left:
        return ""
    reasons = (f": {error_summary(run.result)}" if run.result.get("error") else "" for run in left)
    lines = [f"  {run.path}: {run.status}{reason}" for run, reason in zip(left, reasons, strict=True)]
    return "\n".join(
        [f"{len(left)} of {len(jobs)} jobs did not finish (run the same command again to resume):", *lines]
    )


def _clear(directory: Path) -> None:
    """Delete everything in a run directory but its lock, which this process holds."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != ".lock":
            path.unlink(missing_ok=True)


def _message(error: Exception, error_message: Callable[[Exception], str | None]) -> str:
    state = Singleton.get_state()  # the message may need another config, while Hydra composes this one
    try:
        return error_message(error) or str(error)
    finally:
        Singleton.set_state(state)


def _metadata(config: Any, choices: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """What ``diff_identity`` compares, from a config that is not resolved."""
    present = [key for key in IDENTITY_KEYS if key in config]
    node = OmegaConf.masked_copy(OmegaConf.create({**config, "run_dir": ""}), [*present, "run_dir"])
    resolved: Any = OmegaConf.to_container(node, resolve=True)
    resolved |= {"choices": choices, "init_from": config.get("init_from") and {"sha256": config["init_from"]}}
    return {"config": resolved, "tokenizer": {}, "corpus_sha256": corpus_sha256}
