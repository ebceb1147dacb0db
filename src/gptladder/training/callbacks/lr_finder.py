"""A learning-rate range test."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.callbacks import LearningRateFinder
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write

# The points that Lightning's suggestion leaves out, too.
SKIPPED = 10


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
        if not 0 < min_lr < max_lr:
            raise UserError(f"callbacks.lr_find: min_lr={min_lr} must be above 0 and below max_lr={max_lr}")
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
        with atomic_write(self.run_dir / "lr_find.png") as file:
            self._plot(suggestion).savefig(file, format="png", dpi=120)
        with atomic_write(self.run_dir / "lr_find.json") as file:
            file.write(json.dumps({"suggestion": suggestion, **self.optimal_lr.results}).encode())
        print(f"suggested: optimizer.lr={suggestion:.2g}   picture: {self.run_dir / 'lr_find.png'}")

    def _plot(self, suggestion: float | None) -> Figure:
        """The smoothed loss over the learning rate, without the first points, whose smoothing is biased."""
        assert self.optimal_lr is not None
        rates, losses = (self.optimal_lr.results[key][SKIPPED:] for key in ("lr", "loss"))
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.plot(rates, losses)
        if suggestion is not None and suggestion in rates:
            axes.plot(suggestion, losses[rates.index(suggestion)], "o", color="tab:red", label=f"lr={suggestion:.2g}")
            axes.legend()
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, nats per token (smoothed)")
        return figure
