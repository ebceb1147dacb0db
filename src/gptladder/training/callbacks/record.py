"""The curve of a run, in ``result.json`` after every evaluation."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as L

from gptladder.runs.run import Run
from gptladder.training.lightning_module import LanguageModel


class Record(L.Callback):
    """Keeps the curve, the best point and the time spent training; they travel in the checkpoint."""

    def __init__(self, run: Run, *, tokens_per_step: int) -> None:
        self.run = run
        self.tokens_per_step = tokens_per_step
        self.curve: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self._resumed_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._resumed_at = time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.train_seconds += time.perf_counter() - self._resumed_at

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        # In the result by the words of the run directory, in logs by those of TensorBoard.
        measures = {name.replace("/", "_"): value for name, value in pl_module.measures.items()}
        self.curve.append({"step": trainer.global_step, **measures})
        self.run.write(**self._summary())
        self._resumed_at = time.perf_counter()

    def _summary(self) -> dict[str, Any]:
        now = self.curve[-1]
        trained = [point for point in self.curve if point["step"]] or self.curve
        best = min(trained, key=lambda point: float(point["val_loss"]))
        tokens = now["step"] * self.tokens_per_step
        return {
            **now,
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
