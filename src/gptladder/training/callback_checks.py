"""Callbacks that would not do here what they say: refused before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import lightning.pytorch as L
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    ThroughputMonitor,
)
from lightning.pytorch.utilities.model_helpers import is_overridden

from gptladder.data.datamodule import VAL_METRICS
from gptladder.system.errors import UserError, suggest
from gptladder.training.callbacks.lr_finder import LRFinder
from gptladder.training.lightning_module import TRAIN_METRICS

NEED_LOGGER = (LearningRateMonitor, DeviceStatsMonitor, ThroughputMonitor)

METRICS = (*TRAIN_METRICS, *VAL_METRICS)

# Callbacks of Lightning that count epochs, or change what the config says; with the key that serves instead.
REFUSED: dict[type[L.Callback], str] = {
    BackboneFinetuning: "it needs a module with a backbone: use init_from",
    StochasticWeightAveraging: "it counts epochs, and a run is one epoch: use EMAWeightAveraging",
    GradientAccumulationScheduler: "use trainer.accumulate_grad_batches",
    BatchSizeFinder: "it would change the recipe: set data.batch_size",
    LearningRateFinder: "use experiment=lr_find",
}


def check_callbacks(
    callbacks: Sequence[L.Callback], *, has_logger: bool, log_every_n_steps: int, val_check_interval: int
) -> None:
    """Check what callbacks monitor, log and save.

    Args:
        has_logger: whether there is a logger to log to.
        log_every_n_steps: steps between two values of the training metrics.
        val_check_interval: steps between two evaluations.

    Raises:
        UserError: names the callback, and what to use instead.
    """
    are_known = all(type(callback).__module__.startswith(("lightning.", "gptladder.")) for callback in callbacks)
    for callback in callbacks:
        name = type(callback).__name__
        for kind, remedy in REFUSED.items():
            if isinstance(callback, kind) and not isinstance(callback, LRFinder):
                raise UserError(f"the callback {name} is not possible here: {remedy}")
        if isinstance(callback, NEED_LOGGER) and not has_logger:
            raise UserError(f"the callback {name} needs a logger, and there is no logger: use logger=csv")
        monitor = getattr(callback, "monitor", None)
        if monitor in TRAIN_METRICS and log_every_n_steps > val_check_interval:
            raise UserError(
                f"{name} monitors {monitor}, which is logged every {log_every_n_steps} steps, at evaluations every "
                f"{val_check_interval}: set trainer.log_every_n_steps={val_check_interval}"
            )
        if isinstance(monitor, str) and are_known and monitor not in METRICS:  # else others log
            raise UserError(f"{name} monitors {monitor}, which is not logged: {suggest(monitor, METRICS)}")
        if isinstance(callback, ModelCheckpoint):
            _check_checkpoint(callback)
    states = Counter(callback.state_key for callback in callbacks if is_overridden("state_dict", callback, L.Callback))
    for state, number in states.items():
        if number > 1:
            raise UserError(f"{number} callbacks save their state as {state}: give each another monitor or interval")


def _check_checkpoint(callback: ModelCheckpoint) -> None:
    """Refuse an interval of no time, and a ``best.ckpt`` that would not hold the weights with the lowest loss."""
    if not isinstance(callback._train_time_interval, timedelta | None):
        raise UserError(
            f"train_time_interval={callback._train_time_interval} is not a time: give it as "
            "{_target_: datetime.timedelta, minutes: 5}"
        )
    by_step = callback._every_n_train_steps > 0 or callback._train_time_interval is not None
    if callback.monitor in VAL_METRICS and by_step:
        raise UserError(
            f"{callback.monitor} is measured at evaluations, not every_n_train_steps or train_time_interval: "
            "add a callback of your own without a monitor, or set trainer.val_check_interval"
        )
    if callback.filename != "best":
        return
    problems = {
        f"save_top_k={callback.save_top_k} would save worse ones under the same name": callback.save_top_k != 1,
        "without a monitor it would be the last": callback.monitor is None,
        "mode=max would keep the worst": callback.monitor in METRICS and callback.mode == "max",
    }
    for problem, exists in problems.items():
        if exists:
            raise UserError(
                f"best.ckpt holds the weights with the lowest loss, but {problem}: add a callback of your own"
            )
