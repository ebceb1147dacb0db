"""The jobs of a sweep: each in a directory of its own, done once, and on record whatever becomes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf

from gptladder.data.text import read_text, sha256
from gptladder.runs.configs import check_config, load_config, recorded_choices
from gptladder.runs.naming import job_name, quote_override
from gptladder.runs.run import Run
from gptladder.system.errors import RunLockedError, SweepError, UserError
from gptladder.training.speed import gc_paused

# What of a config decides what a run learns; the rest may change between two launches of one sweep.
IDENTITY_KEYS = ("seed", "init_from", "tokenizer", "data", "model", "optimizer", "scheduler", "trainer", "hardware")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what is overridden, where it is recorded, and its config, or why there is none."""

    number: int
    rung: str
    seed: Any
    overrides: list[str]
    directory: Path
    config: DictConfig | None
    choices: dict[str, Any]
    mistake: str | None

    def prepare(self, *, fresh: bool) -> bool:
        """Put the job on record; whether there is anything left to launch.

        Raises:
            UserError: the directory holds a finished run of another config.
        """
        try:
            with Run(self.directory).locked():
                return self._prepare(fresh=fresh)
        except RunLockedError:  # another sweep is at it
            return False

    def _prepare(self, *, fresh: bool) -> bool:
        if fresh:
            _forget(self.directory)
        run = Run(self.directory)
        if run.finished:
            self._check_same()
            run.write(job=self.number)
            return False
        waiting = {"status": "pending", "error": None, "model": self.rung, "seed": self.seed}
        run.write(**{**waiting, **run.result, "job": self.number})
        if self.mistake is not None:
            run.write(status="failed", error=self.mistake)
        return self.mistake is None

    def _check_same(self) -> None:
        recorded = load_config(self.directory / ".hydra" / "config.yaml")
        current = OmegaConf.to_container(self.config or OmegaConf.create(), resolve=False)
        if _identity(recorded, recorded_choices(self.directory)) != _identity(current, self.choices):
            changed = "the configs"
        elif not self._same_text():
            changed = "the text"
        else:
            return
        raise UserError(
            f"{self.directory} holds a finished run, and {changed} changed since: "
            "fresh=true starts over, sweep=NAME keeps both"
        )

    def _same_text(self) -> bool:
        assert self.config is not None
        path = self.config.data.path
        return path is None or sha256(read_text(path)) == Run.read(self.directory)["corpus_sha256"]


def compose_job(
    number: int,
    overrides: list[str],
    compose: Callable[[list[str]], DictConfig],
    explain: Callable[[Exception], str | None],
) -> Job:
    """Compose one job of a sweep, as far as that is possible.

    Args:
        compose: the config of some overrides.
        explain: a sentence for an error that the user made, or ``None``.
    """
    choices: dict[str, Any] = {}
    settings = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    try:
        config, mistake = compose(overrides), None
        check_config(config)
        rung, seed, sweep_dir = config.rung, config.seed, config.hydra.sweep.dir
        choices = {group: choice for group, choice in config.hydra.runtime.choices.items() if "/" not in group}
        config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    except Exception as error:
        config, mistake = None, _explain(error, explain)
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
        mistake=mistake,
    )


def raise_if_all_invalid(jobs: list[Job]) -> None:
    """Raise the mistake as the user's own if it is in every job: then there is nothing to put on record."""
    if all(job.mistake is not None for job in jobs):
        raise UserError(jobs[0].mistake)


def preload_report() -> None:
    """Import what ``report`` needs, torch above all: something to do while jobs run elsewhere."""
    with gc_paused():
        pass


def report(directory: Path) -> None:
    """Write and print the table of all runs below a directory, whatever their state."""
    preload_report()
    from rich.console import Console

    from gptladder.report import show_report, write_report

    show_report(write_report(directory), Console())
    print(f"report: {directory}/report.html   curves: tensorboard --logdir {directory}")


def settle(jobs: list[Job]) -> list[dict[str, Any]]:
    """The results of a sweep.

    Raises:
        SweepError: names every job that did not finish, and why.
    """
    left = unfinished(jobs)
    if left:
        raise SweepError(left)
    return [Run.read(job.directory) for job in jobs]


def unfinished(jobs: list[Job]) -> str:
    """Every job that did not finish and how it stands, one a line; empty if all did."""
    runs = [Run(job.directory) for job in jobs]
    left = [f"  {run.path}: {run.status}{_reason(run.result)}" for run in runs if not run.finished]
    if not left:
        return ""
    again = "the same command again goes on with them"
    return f"{len(left)} of {len(jobs)} jobs did not finish ({again}):\n" + "\n".join(left)


def _reason(result: dict[str, Any]) -> str:
    return f": {result['error'].strip().splitlines()[-1]}" if result.get("error") else ""


def _forget(directory: Path) -> None:
    """Empty a run directory but for its lock, which is held."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != ".lock":
            path.unlink(missing_ok=True)


def _explain(error: Exception, explain: Callable[[Exception], str | None]) -> str:
    state = Singleton.get_state()  # explaining composes configs, in the middle of Hydra's work
    try:
        return explain(error) or str(error)
    finally:
        Singleton.set_state(state)


def _identity(config: Any, choices: dict[str, Any]) -> Any:
    """The choices and values that decide what a run learns, without import paths."""
    values = {key: _without_targets(config[key]) for key in IDENTITY_KEYS if key in config}
    return values, {group: choices.get(group) for group in ("model", "tokenizer", "optimizer", "scheduler")}


def _without_targets(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {key: _without_targets(value) for key, value in node.items() if not str(key).startswith("_")}
