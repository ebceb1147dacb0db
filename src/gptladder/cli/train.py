"""The job that Hydra runs: one training with its log and its closing summary."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from omegaconf import DictConfig

from gptladder.cli.main import PARENT
from gptladder.cli.user_errors import exit_on_user_error
from gptladder.training.speed import gc_paused


@exit_on_user_error
def train_job(cfg: DictConfig) -> float:
    """Train one rung as composed, record it in the run directory, and return its exact loss."""
    # Imported here: --help and user errors answer before torch and Lightning are loaded.
    with gc_paused():
        from rich import print

        from gptladder.cli.summary import summary
        from gptladder.runs.run import Run, is_first_process
        from gptladder.runs.train_log import log_output
        from gptladder.training.train import train

    run = Run(cfg.run_dir)
    with _watch_parent(), log_output(run):
        train(cfg, run)
        if is_first_process():
            print(summary(run.result, run.path))
    return float(run.result["val_loss"])


def _watch_parent() -> AbstractContextManager[None]:
    """In a worker that joblib started for this command: end with the command."""
    from hydra.core.hydra_config import HydraConfig

    parent = int(os.environ.get(PARENT, os.getpid()))
    if parent == os.getpid() or HydraConfig.get().runtime.choices["hydra/launcher"] != "joblib":
        return nullcontext()
    from gptladder.sweeps.workers import end_with_parent

    return end_with_parent(parent)
