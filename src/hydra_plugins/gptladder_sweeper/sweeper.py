"""Hydra's own sweeper, which does each job once, loses none, and ends with the table."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gptladder.cli.config_errors import error_message
from gptladder.runs.run import Run
from gptladder.sweeps.jobs import Job, compose_job, preload_report, raise_if_all_invalid, report, settle, unfinished
from gptladder.sweeps.workers import forward_signals
from gptladder.system.files import atomic_write, remove_stale_files


class LadderSweeper(BasicSweeper):
    """Sweeps the product of the overrides, as Hydra does, over directories named by what sets a job apart.

    A job that is finished is not launched again, one that was stopped goes on, one that cannot even be composed
    is on record as failed while the others run. ``plan=true`` builds every job and trains none.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Launch what is left to do, then write the report of all that is there."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        jobs = self._jobs(arguments, loader, self.config)
        if self.config.plan:
            from gptladder.sweeps.dry_run import print_dry_run

            return print_dry_run(jobs)
        raise_if_all_invalid(jobs)
        directory = Path(self.config.hydra.sweep.dir)
        remove_stale_files(directory)
        with atomic_write(directory / "multirun.yaml") as file:
            file.write(OmegaConf.to_yaml(self.config).encode())
        left = [job for job in jobs if job.prepare(fresh=self.config.fresh)]
        try:
            if left:
                self._launch(left)
        except (SystemExit, KeyboardInterrupt):
            print(unfinished(jobs), file=sys.stderr)
            raise
        finally:
            report(directory)
        return settle(jobs)

    def _launch(self, jobs: list[Job]) -> None:
        assert self.launcher is not None
        if isinstance(self.launcher, BasicLauncher):  # in this very process a job hears of signals itself
            self.launcher.launch([job.overrides for job in jobs], initial_job_idx=0)
            return
        Thread(target=preload_report, daemon=True).start()
        with forward_signals([Run(job.directory) for job in jobs]):
            # The last first: on a ladder they take longest, and begun last one would run on alone.
            self.launcher.launch([job.overrides for job in reversed(jobs)], initial_job_idx=0)

    def _jobs(self, arguments: list[str], loader: ConfigLoader, config: DictConfig) -> list[Job]:
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (products,) = self.split_arguments(overrides, None)
        conf = next(Path(source.path) for source in loader.get_sources() if source.provider == "main")
        return [
            compose_job(
                number,
                product,
                lambda words: loader.load_sweep_config(config, words),
                lambda error: error_message(error, conf),
            )
            for number, product in enumerate(products)
        ]
