"""MLflow and Weights & Biases: the jobs of a sweep together, under readable names, with the tags and notes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

from gptladder.runs.naming import current_label

# What the sweeper writes into the directory of a sweep.
SWEEP_FILE = "multirun.yaml"


class SweepMLFlowLogger(MLFlowLogger):
    """Writes to ``mlflow.db`` in the directory of the sweep or of the single run; a resumed run continues its own.

    Args:
        run_dir: the directory of the run.
        rung, seed: name the run, together with what varies in its sweep.
        tags, notes: of the run.
        options: of Lightning's logger; ``experiment_name`` is the name of the sweep by default, or the rung.
    """

    def __init__(
        self,
        *,
        run_dir: str,
        rung: str,
        seed: int,
        tags: Sequence[str] = (),
        notes: str | None = None,
        **options: Any,
    ) -> None:
        self._directory = Path(run_dir).name
        sweep = sweep_of(Path(run_dir))
        self._store = (sweep or Path(run_dir)).absolute()
        texts = {"run_dir": self._directory, "tags": ",".join(map(str, tags)), "mlflow.note.content": str(notes or "")}
        defaults: dict[str, Any] = {
            "experiment_name": sweep.name if sweep else rung,
            "run_name": f"{current_label(rung)} seed {seed}",
            # A dry run has no directory, and writes nothing.
            "tracking_uri": f"sqlite:///{self._store / 'mlflow.db'}" if Path(run_dir).exists() else "sqlite://",
            "artifact_location": (self._store / "mlflow_artifacts").as_uri(),
            "tags": {key: text for key, text in texts.items() if text},
        }
        with self._creating():  # Lightning creates the database here, and the experiment at its first use
            super().__init__(**{**defaults, **options})

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._initialized:
            return super().experiment
        with self._creating():
            self._run_id = self._run_id or self._recorded_run()
            return super().experiment

    def _creating(self) -> AbstractContextManager[Any]:
        """Of several jobs that begin together, one creates what they share."""
        return FileLock(self._store / ".mlflow.lock") if self._store.exists() else nullcontext()

    def _recorded_run(self) -> str | None:
        """The ID of the run in MLflow that an earlier start of this run created."""
        experiment = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if experiment is None:
            return None
        query = f"tags.run_dir = '{self._directory}'"
        runs = self._mlflow_client.search_runs([experiment.experiment_id], query, max_results=1)
        return str(runs[0].info.run_id) if runs else None


def wandb_logger(
    *, run_dir: str, rung: str, seed: int, tags: Sequence[str] = (), notes: str | None = None, **options: Any
) -> WandbLogger:
    """A logger whose runs are grouped by their sweep.

    Args:
        run_dir: the directory of the run, to which it writes.
        rung, seed: name the run, together with what varies in its sweep.
        tags, notes: of the run.
        options: of Lightning's logger.
    """
    sweep = sweep_of(Path(run_dir))
    return WandbLogger(
        **{
            "save_dir": run_dir,
            "name": f"{current_label(rung)} seed {seed}",
            "group": sweep.name if sweep else None,
            "tags": list(map(str, tags)),
            "notes": notes,
            **options,
        }
    )


def sweep_of(run_dir: Path) -> Path | None:
    """The directory of the sweep that a run is a job of; ``None`` for a single run."""
    parent = run_dir.absolute().parent
    return parent if (parent / SWEEP_FILE).exists() else None
