"""Why a training ended before its last step."""

from __future__ import annotations

import lightning.pytorch as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from gptladder.runs.run import EARLY_STOPPING
from gptladder.training.callbacks.lr_finder import LRFinder


def stop_reason(trainer: L.Trainer) -> str | None:
    """What ended a training before ``trainer.max_steps``, in a clause; ``None`` if it reached that step."""
    if trainer.global_step >= trainer.max_steps:
        return None
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        match callback:
            case EarlyStopping() if callback.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
                why = str(callback.stopping_reason_message).partition(". ")[0]
                return f"{EARLY_STOPPING}: {' '.join(why.split())}"
            case Timer() if (seconds := callback.time_remaining()) is not None and seconds <= 0:
                return "the time limit was reached"
            case LRFinder():
                return "a range test trains nothing"
    if trainer.should_stop:
        return "a callback set trainer.should_stop"
    return f"trainer.max_epochs={trainer.max_epochs} was reached"
