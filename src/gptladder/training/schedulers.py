"""Learning-rate schedules that torch does not have in one piece."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from gptladder.system.errors import UserError


def cosine(optimizer: Optimizer, *, max_steps: int, warmup_steps: int, final_fraction: float) -> LRScheduler:
    """Climb linearly for ``warmup_steps``, then fall along half a cosine to ``final_fraction`` of the peak.

    Args:
        max_steps: where the fall ends.
        warmup_steps: steps of the fit; 0 starts at the peak.
        final_fraction: the last learning rate as a share of the peak.

    Loshchilov & Hutter 2016, with the warm-up that transformers need.
    """
    _check_warmup(warmup_steps, max_steps)
    peak = optimizer.param_groups[0]["lr"]
    fall = CosineAnnealingLR(optimizer, max_steps - warmup_steps, eta_min=final_fraction * peak)
    if not warmup_steps:
        return fall
    fit = LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
    return SequentialLR(optimizer, [fit, fall], milestones=[warmup_steps])


def linear(optimizer: Optimizer, *, max_steps: int, warmup_steps: int, final_fraction: float) -> LRScheduler:
    """Climb linearly for ``warmup_steps``, then fall along a line to ``final_fraction`` of the peak, group by group.

    The arguments are those of ``cosine``. Defazio et al. 2023, "When, Why and How Much?", for the line.
    """
    _check_warmup(warmup_steps, max_steps)

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        left = (max_steps - step) / (max_steps - warmup_steps)
        return final_fraction + (1 - final_fraction) * left

    return LambdaLR(optimizer, share)


def _check_warmup(warmup_steps: int, max_steps: int) -> None:
    if type(warmup_steps) is not int or not 0 <= warmup_steps < max_steps:
        raise UserError(
            f"scheduler.warmup_steps={warmup_steps} must be a whole number below trainer.max_steps={max_steps}"
        )
