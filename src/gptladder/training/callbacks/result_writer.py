"""The curve of a run, in ``result.json`` after every evaluation."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as L

from gptladder.runs.run import Run
from gptladder.training import gpu_use
from gptladder.training.lightning_module import LanguageModel


class ResultWriter(L.Callback):
    """Writes the curve, the best point and the training time; they are part of the checkpoint.

    On a GPU it also writes how well the training used it, and logs that as ``train/mfu`` for the steps since the last
    evaluation. The recorded MFU leaves out the steps before the first evaluation of a training, in which
    ``torch.compile`` compiles, if there are others.

    Args:
        run: whose result it writes.
        tokens_per_step: of all processes together.
        flops_per_token: of a forward and a backward pass; 0 if it is not known.
    """

    def __init__(self, run: Run, *, tokens_per_step: int, flops_per_token: int = 0) -> None:
        self.run = run
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token
        self.curve: list[dict[str, Any]] = []
        self.train_seconds = 0.0
        self._segment_start = 0.0
        self._segment_step = 0  # at that time
        self._segments: list[tuple[int, float]] = []  # tokens and seconds between evaluations, since the last start

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for key in gpu_use.KEYS:  # of the device that it was started on
            self.run.result.pop(key, None)
        self._segments = []
        self._start_segment(trainer)

    def _start_segment(self, trainer: L.Trainer) -> None:
        self._segment_start, self._segment_step = time.perf_counter(), trainer.global_step

    def _end_segment(self, trainer: L.Trainer) -> None:
        seconds = time.perf_counter() - self._segment_start
        self.train_seconds += seconds
        if trainer.global_step > self._segment_step:
            self._segments.append(((trainer.global_step - self._segment_step) * self.tokens_per_step, seconds))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_segment(trainer)  # it may end between two evaluations

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._end_segment(trainer)
            use = self._gpu_use(trainer, self._segments[-1:])
            if "mfu" in use:
                for logger in trainer.loggers:
                    logger.log_metrics({"train/mfu": use["mfu"]}, step=trainer.global_step)

    def _gpu_use(self, trainer: L.Trainer, segments: list[tuple[int, float]]) -> dict[str, Any]:
        tokens, seconds = (sum(each) for each in zip(*segments, strict=True)) if segments else (0, 0.0)
        speed = tokens / seconds if seconds else None
        return gpu_use.gpu_use(trainer, flops_per_token=self.flops_per_token, tokens_per_second=speed)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, LanguageModel)
        # In result.json with the names of the run directory, in logs with those of TensorBoard.
        metrics = {name.replace("/", "_"): value for name, value in pl_module.val_metrics.items()}
        self.curve.append({"step": trainer.global_step, **metrics})
        summary = self._summary() | _overfit(trainer)
        self.run.write(**summary, **self._gpu_use(trainer, self._segments[1:] or self._segments))
        self._start_segment(trainer)

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


def _overfit(trainer: L.Trainer) -> dict[str, Any]:
    """Of a run that should memorize a few windows: their number, and the loss on them."""
    n_windows = trainer.datamodule.overfit_windows  # type: ignore[attr-defined]
    loss = trainer.callback_metrics.get("train/loss")
    if n_windows is None or loss is None:
        return {}
    return {"overfit": {"windows": n_windows, "train_loss": float(loss)}}
