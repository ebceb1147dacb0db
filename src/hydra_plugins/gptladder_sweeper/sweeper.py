"""Hydra's basic sweeper, with jobs that resume and a report at the end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gptladder.cli.config_errors import error_message
from gptladder.cli.summary import summary_line
from gptladder.runs.naming import VARYING, varying_keys
from gptladder.runs.run import Run
from gptladder.sweeps.jobs import (
    Job,
    check_directories,
    collect_results,
    compose_job,
    label_jobs,
    raise_if_all_invalid,
    unfinished,
)
from gptladder.sweeps.progress import show_progress
from gptladder.sweeps.workers import forward_signals
from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write, remove_stale_files
from gptladder.training.speed import gc_paused


class LadderSweeper(BasicSweeper):
    """Sweeps the product of the overrides, as Hydra's does, with one directory per job, named after its overrides.

    A finished job is not launched again, an interrupted one is resumed, and one with an invalid config is recorded as
    failed while the others run. ``plan=true`` builds every job and trains none.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs that are not finished, then write the report of all runs in the directory."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        jobs = self._jobs(arguments, loader, self.config)
        if not jobs:
            raise UserError("there is no job: a range or list in the command is empty")
        check_directories(jobs)
        if self.config.plan:
            from gptladder.sweeps.dry_run import print_dry_run

            return print_dry_run(jobs, n_workers=self._n_workers())
        raise_if_all_invalid(jobs)
        directory = self._record_sweep(self.config)
        os.environ[VARYING] = ",".join(varying_keys([job.overrides for job in jobs]))
        left = [job for job in jobs if job.prepare(fresh=self.config.fresh)]
        try:
            if left:
                labels = dict(zip([job.number for job in jobs], label_jobs(jobs), strict=True))
                self._launch(left, labels, n_jobs=len(jobs))
        except (SystemExit, KeyboardInterrupt):
            print(unfinished(jobs), file=sys.stderr)
            raise
        finally:
            write_and_show_report(directory)
        return collect_results(jobs)

    @staticmethod
    def _record_sweep(config: DictConfig) -> Path:
        """Write the config of the sweep into its directory, which is returned."""
        directory = Path(config.hydra.sweep.dir)
        remove_stale_files(directory)
        with atomic_write(directory / "multirun.yaml") as file:
            file.write(OmegaConf.to_yaml(config).encode())
        return directory

    def _n_workers(self) -> int:
        """How many jobs the launcher runs side by side, as far as its config says."""
        assert self.config is not None
        n_jobs = int(self.config.hydra.launcher.get("n_jobs") or 1)
        return n_jobs if n_jobs > 0 else os.cpu_count() or 1

    def _launch(self, jobs: list[Job], labels: Mapping[int, str], *, n_jobs: int) -> None:
        """Launch some of the ``n_jobs`` jobs of a sweep; their labels are by number."""
        assert self.launcher is not None
        assert self.config is not None
        # Not isinstance: Hydra imports its plugins again when it is initialized again.
        if self.config.hydra.runtime.choices["hydra/launcher"] == "basic":  # a job handles signals itself
            for job in jobs:
                print(f"job {job.number + 1} of {n_jobs}: {labels[job.number]}")
                self.launcher.launch([job.overrides], initial_job_idx=job.number)
            return
        Thread(target=_import_report_and_torch, daemon=True).start()
        with (
            forward_signals([Run(job.directory) for job in jobs]),
            show_progress(jobs, [labels[job.number] for job in jobs], summary_line),
        ):
            # In reverse order: the last rungs take longest, and started last, one of them would run alone.
            self.launcher.launch([job.overrides for job in reversed(jobs)], initial_job_idx=0)

    def _jobs(self, arguments: list[str], loader: ConfigLoader, config: DictConfig) -> list[Job]:
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (products,) = self.split_arguments(overrides, None)
        return [self._compose_job(number, product, loader, config) for number, product in enumerate(products)]

    @staticmethod
    def _compose_job(number: int, overrides: list[str], loader: ConfigLoader, config: DictConfig) -> Job:
        conf = next(Path(source.path) for source in loader.get_sources() if source.provider == "main")
        return compose_job(
            number,
            overrides,
            lambda words: loader.load_sweep_config(config, words),
            lambda error: error_message(error, conf),
        )


def _import_report_and_torch() -> None:
    """Import all that a report of trained runs needs, while the jobs run in other processes."""
    with gc_paused():
        import gptladder.evaluation.ngram
        import gptladder.report
        import gptladder.runs.checkpoint  # noqa: F401


def write_and_show_report(directory: Path, *, with_table: bool = True) -> None:
    """Write the report of all runs in a directory, of any status, print its table, and say where it is."""
    with gc_paused():
        from rich.console import Console

        from gptladder.report import show_report, write_report

    report = write_report(directory)
    if with_table:
        show_report(report, Console())
    curves = shlex.join(["tensorboard", "--logdir", str(directory)])
    print(f"report: {directory / 'report.html'}   curves: {curves}")
