"""A learning-rate range test."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.callbacks import LearningRateFinder
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gptladder.system.files import atomic_write


class LRFinder(LearningRateFinder):
    """Lightning's range test: some steps at increasing learning rates, a plot, and a suggestion.

    The weights are restored and the run ends; the suggestion is not used unless the user asks for it.

    Args:
        run_dir: gets ``lr_find.png`` and ``lr_find.json``.
        min_lr, max_lr: the range of learning rates.
        n_steps: the number of learning rates.

    Smith 2015, "Cyclical Learning Rates for Training Neural Networks".
    """

    def __init__(self, *, run_dir: str, min_lr: float, max_lr: float, n_steps: int) -> None:
        super().__init__(min_lr=min_lr, max_lr=max_lr, num_training_steps=n_steps, update_attr=False)
        self.run_dir = Path(run_dir)
        self._early_exit = True

    def lr_find(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        try:
            super().lr_find(trainer, pl_module)
        finally:
            if trainer.is_global_zero and self.optimal_lr is not None:
                self._record()

    def _record(self) -> None:
        assert self.optimal_lr is not None
        suggestion = self.optimal_lr.suggestion()
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        self.optimal_lr.plot(suggest=True, ax=figure.add_subplot())
        with atomic_write(self.run_dir / "lr_find.png") as file:
            figure.savefig(file, format="png", dpi=120)
        with atomic_write(self.run_dir / "lr_find.json") as file:
            file.write(json.dumps({"suggestion": suggestion, **self.optimal_lr.results}).encode())
        print(f"suggested: optimizer.lr={suggestion:.2g}   picture: {self.run_dir / 'lr_find.png'}")
