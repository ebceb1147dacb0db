"""Learning-rate schedules that PyTorch does not have in one piece."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, SequentialLR

from gptladder.system.errors import UserError


def cosine(optimizer: Optimizer, *, max_steps: int, warmup_steps: int, min_lr_ratio: float) -> LRScheduler:
    """Linear warmup, then cosine decay to ``min_lr_ratio`` of the peak, for each parameter group.

    Args:
        max_steps: where the decay ends.
        warmup_steps: steps of the warmup; 0 starts at the peak.
        min_lr_ratio: the last learning rate as a fraction of the peak.

    Loshchilov & Hutter 2016, with a warmup.
    """
    _check_warmup(warmup_steps, max_steps)
    decay = _CosineDecay(optimizer, n_steps=max_steps - warmup_steps, min_lr_ratio=min_lr_ratio)
    if not warmup_steps:
        return decay
    warmup = LinearLR(optimizer, start_factor=1 / (warmup_steps + 1), total_iters=warmup_steps)
    return SequentialLR(optimizer, [warmup, decay], milestones=[warmup_steps])


class _CosineDecay(CosineAnnealingLR):
    """PyTorch's cosine decay with a minimum for each parameter group instead of one for all."""

    def __init__(self, optimizer: Optimizer, *, n_steps: int, min_lr_ratio: float) -> None:
        self.min_lr_ratio = min_lr_ratio
        super().__init__(optimizer, n_steps)

    def get_lr(self) -> list[float | Tensor]:
        rates = []
        for i, peak in enumerate(self.base_lrs):
            self.eta_min = self.min_lr_ratio * float(peak)
            rates.append(super().get_lr()[i])
        return rates


def linear(optimizer: Optimizer, *, max_steps: int, warmup_steps: int, min_lr_ratio: float) -> LRScheduler:
    """Linear warmup, then linear decay to ``min_lr_ratio`` of the peak, for each parameter group.

    The arguments are those of ``cosine``. Defazio et al. 2023, "When, Why and How Much?".
    """
    _check_warmup(warmup_steps, max_steps)

    def lr_factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        left = (max_steps - step) / (max_steps - warmup_steps)
        return min_lr_ratio + (1 - min_lr_ratio) * left

    return LambdaLR(optimizer, lr_factor)


def _check_warmup(warmup_steps: int, max_steps: int) -> None:
    if type(warmup_steps) is not int or not 0 <= warmup_steps < max_steps:
        raise UserError(
            f"scheduler.warmup_steps={warmup_steps} must be an integer in [0, trainer.max_steps={max_steps})"
        )
