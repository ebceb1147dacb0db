"""The curve of a run, in ``result.json`` after every evaluation."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as L

from gptladder.runs.run import Run
from gptladder.training.lightning_module import LanguageModel


class ResultWriter(L.Callback):
    """Writes the curve, the best point and the training time; they are part of the checkpoint."""

    def __init__(self, run: Run, *, tokens_per_step: int) -> None:
        self.run = run
        self.tokens_per_step = tokens_per_step
        self.curve: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self._segment_start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._segment_start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.train_seconds += time.perf_counter() - self._segment_start  # it may end between two evaluations

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.train_seconds += time.perf_counter() - self._segment_start

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, LanguageModel)
        # In result.json with the names of the run directory, in logs with those of TensorBoard.
        metrics = {name.replace("/", "_"): value for name, value in pl_module.val_metrics.items()}
        self.curve.append({"step": trainer.global_step, **metrics})
        self.run.write(**self._summary())
        self._segment_start = time.perf_counter()

    def _summary(self) -> dict[str, Any]:
        latest = self.curve[-1]
        trained = [point for point in self.curve if point["step"]] or self.curve
        best = min(trained, key=lambda point: float(point["val_loss"]))
        tokens = latest["step"] * self.tokens_per_step
        return {
            **latest,
            "best": {"step": best["step"], "val_loss": best["val_loss"]},
            "curve": self.curve,
            "tokens": tokens,
            "train_seconds": round(self.train_seconds, 3),
            "tokens_per_second": round(tokens / self.train_seconds) if self.train_seconds else None,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"curve": self.curve, "train_seconds": self.train_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = state_dict["curve"]
        self.train_seconds = state_dict["train_seconds"]
