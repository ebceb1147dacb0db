"""A search by Optuna as a sweep: its trials are jobs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from gptladder.runs.naming import LAUNCH_KEYS, VARYING, job_label, key_of
from gptladder.runs.run import ENDED, Run
from gptladder.sweeps.jobs import Job, raise_if_all_invalid, unfinished
from gptladder.system.commands import install_command
from gptladder.system.errors import SweepError, UserError
from gptladder.system.files import atomic_write

from .sweeper import LadderSweeper, write_and_show_report

METRICS = ("val_loss", "val_bits_per_char", "val_estimate", "train_estimate")
SHOWN = 10  # trials in the table


class SearchSweeper(LadderSweeper):
    """Searches hyperparameters with Optuna; each trial is a job with a directory of its own, named after its values.

    The same command again resumes the trials that were interrupted, and goes on until there are ``n_trials``.

    Args:
        n_trials: over all launches.
        n_jobs: trials at a time; ``None`` is as many as the launcher runs side by side.
        metric: the value of ``result.json`` that is minimized.
        sampler: the config of one of Optuna's samplers.
        params: what is searched, and what is not, as overrides with ``interval``, ``range`` and ``choice``.
    """

    def __init__(
        self, *, n_trials: int, n_jobs: int | None, metric: str, sampler: DictConfig, params: DictConfig | None
    ) -> None:
        if type(n_trials) is not int or n_trials < 1:
            raise UserError(f"hydra.sweeper.n_trials={n_trials} must be an integer >= 1")
        if n_jobs is not None and (type(n_jobs) is not int or n_jobs < 1):
            raise UserError(f"hydra.sweeper.n_jobs={n_jobs} must be an integer >= 1, or null")
        if metric not in METRICS:
            raise UserError(f"hydra.sweeper.metric={metric} must be one of {', '.join(METRICS)}")
        super().__init__(max_batch_size=None, params=params)  # type: ignore[arg-type]
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.metric = metric
        self.sampler = sampler

    def sweep(self, arguments: list[str]) -> Any:
        """Run trials until there are enough, then write the report and print the best ones."""
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        space, fixed = self._read_space(arguments)
        from ._study import RecordedStudy  # imports Optuna

        config: Any = OmegaConf.to_container(self.sampler, resolve=True)
        if self.config.plan:
            return self._plan(RecordedStudy(None, space, config), fixed, loader)
        directory = Path(self.config.hydra.sweep.dir)
        with Run(directory).locked():
            settings = self._settings(space, fixed)
            study = RecordedStudy(directory, space, config, settings=settings, fresh=self.config.fresh)
            self._record_sweep(self.config)
            os.environ[VARYING] = ",".join(space)
            jobs: dict[int, Job] = {}
            try:
                self._run_trials(study, fixed, loader, jobs)
            finally:
                if any(directory.glob("*/result.json")):
                    write_and_show_report(directory, with_table=False)
                    self._show_best(study, directory)
        if left := unfinished(list(jobs.values())):
            raise SweepError(left)
        return [Run.read(job.directory) for job in jobs.values()]

    def _read_space(self, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The distribution of each key that is searched, and the overrides of all trials."""
        try:
            from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
        except ModuleNotFoundError:
            raise UserError(f"a search needs Optuna: {install_command('search')} installs it") from None
        space, fixed = create_params_from_overrides([*self._parse_config(), *arguments])
        space = {key: distribution for key, distribution in space.items() if key not in fixed}
        if not space:
            raise UserError("there is nothing to search: give a key values, such as optimizer.lr='interval(1e-3,1e-2)'")
        if self.metric != "val_bits_per_char" and any(key.startswith("tokenizer") for key in space):
            raise UserError(
                f"hydra.sweeper.metric={self.metric} is a loss per token, which different tokenizers do not share: use "
                "hydra.sweeper.metric=val_bits_per_char"
            )
        return space, [f"{key}={value}" for key, value in fixed.items()]

    def _settings(self, space: Mapping[str, Any], fixed: Sequence[str]) -> dict[str, str]:
        """What all trials of a search share."""
        shared = [word for word in fixed if key_of(word) not in LAUNCH_KEYS or key_of(word) == "model"]
        searched = {key: str(distribution) for key, distribution in space.items()}
        return {"metric": self.metric, "other overrides": " ".join(sorted(shared)), **searched}

    def _run_trials(self, study: Any, fixed: list[str], loader: ConfigLoader, jobs: dict[int, Job]) -> None:
        """Run trials in batches, those of an earlier launch first, and add their jobs to ``jobs``."""
        assert self.config is not None
        waiting = list(range(len(study.trials)))
        while waiting or len(study.trials) < self.n_trials:
            size = self.n_jobs or self._n_workers()
            batch, waiting = waiting[:size], waiting[size:]
            batch += [study.ask() for _ in range(min(size - len(batch), self.n_trials - len(study.trials)))]
            trials = {number: self._compose_trial(number, study.trials[number], fixed, loader) for number in batch}
            jobs |= trials
            raise_if_all_invalid(list(trials.values()))
            if launched := [job for job in trials.values() if job.prepare(fresh=self.config.fresh)]:
                labels = {job.number: job_label(job.rung, _overrides(study.trials[job.number])) for job in launched}
                self._launch(launched, labels, n_jobs=self.n_trials)
            for job in trials.values():
                self._tell(study, job)

    def _compose_trial(self, number: int, params: Mapping[str, Any], fixed: list[str], loader: ConfigLoader) -> Job:
        assert self.config is not None
        return self._compose_job(number, [*fixed, *_overrides(params)], loader, self.config)

    def _tell(self, study: Any, job: Job) -> None:
        """Give the study the result of a trial that ended; others are run again."""
        result, status = Run.read(job.directory), Run(job.directory).status
        value = result.get(self.metric) if status in ENDED else None
        if status in (*ENDED, "failed"):
            study.tell(job.number, value if value is not None and math.isfinite(value) else None)

    def _show_best(self, study: Any, directory: Path) -> None:
        """Print the best trials, the best first, and write the best one to the file where Hydra's sweeper has it."""
        from rich.console import Console
        from rich.table import Table

        values = {number: value for number, value in study.values.items() if value is not None}
        if not values:
            return
        best = min(values, key=values.__getitem__)
        content = {"name": "optuna", "best_params": study.trials[best], "best_value": values[best]}
        with atomic_write(directory / "optimization_results.yaml") as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(content)).encode())
        table = Table(title=f"{len(values)} of {self.n_trials} trials finished, the best first", title_justify="left")
        keys = list(study.space)
        for name in ("trial", self.metric, *(key.rpartition(".")[2] for key in keys)):
            table.add_column(name, justify="right")
        for number in sorted(values, key=values.__getitem__)[:SHOWN]:
            table.add_row(str(number), f"{values[number]:.4f}", *(str(study.trials[number][key]) for key in keys))
        Console().print(table)

    def _plan(self, study: Any, fixed: list[str], loader: ConfigLoader) -> None:
        """Estimate what the first trials cost, without results that the later ones would depend on."""
        from gptladder.sweeps.dry_run import print_dry_run

        numbers = [study.ask() for _ in range(self.n_trials)]
        jobs = [self._compose_trial(number, study.trials[number], fixed, loader) for number in numbers]
        print_dry_run(jobs, n_workers=self.n_jobs or self._n_workers())


def _overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]
