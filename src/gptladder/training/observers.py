"""What observes single steps of a training, or counts batches, so that steps must not be taken in one go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.model_helpers import is_overridden

from gptladder.data.datamodule import TextDataModule
from gptladder.training.callbacks.graceful_stop import GracefulStop
from gptladder.training.callbacks.nonfinite import NonFiniteGuard
from gptladder.training.callbacks.progress import Progress
from gptladder.training.lightning_module import LanguageModel

STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)
# These need not see every step: they act at known steps, or at the next step that Lightning sees.
KNOWN = (GracefulStop, NonFiniteGuard, Progress, ModelCheckpoint)


def find_observer(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule) -> str | None:
    """A clause that names something that observes single steps or counts batches; ``None`` if nothing does."""
    return next(_observers(trainer, module, data), None)


def _observers(trainer: Any, module: L.LightningModule, data: L.LightningDataModule) -> Iterator[str]:
    for callback in trainer.callbacks:
        name = type(callback).__name__
        hook = next((hook for hook in STEP_HOOKS if is_overridden(hook, callback, L.Callback)), None)
        if isinstance(callback, LearningRateFinder) or (hook is not None and type(callback) not in KNOWN):
            yield f"the callback {name} observes single steps"
        if type(callback) is ModelCheckpoint and callback._train_time_interval is not None:
            yield f"the callback {name} saves by time"
    if type(module) is not LanguageModel:
        yield f"{type(module).__name__} may do something of its own in a step"
    if type(data) is not TextDataModule:
        yield f"{type(data).__name__} may have other batches"
    if not isinstance(trainer.profiler, PassThroughProfiler):
        yield f"the profiler {type(trainer.profiler).__name__} times single steps"
    flags = {
        "limit_train_batches": trainer.limit_train_batches != 1.0,
        "limit_val_batches": trainer.limit_val_batches != 1.0,
        "overfit_batches": bool(trainer.overfit_batches),
        "fast_dev_run": bool(trainer.fast_dev_run),
        "num_sanity_val_steps": bool(trainer.num_sanity_val_steps),
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch is not None,
        "max_epochs": trainer.max_epochs not in (None, -1),
        "reload_dataloaders_every_n_epochs": bool(trainer.reload_dataloaders_every_n_epochs),
    }
    yield from (f"trainer.{flag} counts batches or epochs" for flag, is_set in flags.items() if is_set)
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm not in (None, "norm"):
        yield f"trainer.gradient_clip_algorithm={trainer.gradient_clip_algorithm} is Lightning's"
    if trainer.world_size > 1 or trainer.strategy.root_device.type != "cpu":
        yield "the fast loop is for one process on a CPU"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        yield "fp16 scales the loss"
