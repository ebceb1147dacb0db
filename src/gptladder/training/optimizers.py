"""Optimizers that treat kinds of parameters differently.

They are built from ``net.named_parameters()``, which PyTorch's own optimizers take as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def adamw_with_decay_groups(params: NamedParameters, *, weight_decay: float, **options: Any) -> AdamW:
    """AdamW without weight decay for parameters of one dimension: gains and biases (as in GPT-2 and nanoGPT)."""
    params = list(params)
    groups = [
        {"params": [pair for pair in params if pair[1].dim() >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in params if pair[1].dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], **options)


def muon(
    params: NamedParameters,
    *,
    lr: float,
    momentum: float,
    ns_steps: int,
    weight_decay: float,
    adamw_lr: float,
    **adamw: Any,
) -> CombinedOptimizer:
    """Muon for the matrices in transformer blocks, AdamW for the rest: embeddings, head, gains, biases.

    Args:
        params: names and parameters of a network.
        lr: of Muon, whose updates have singular values of about one.
        momentum, ns_steps, weight_decay: as in ``torch.optim.Muon``.
        adamw_lr: of AdamW.
        adamw: further options of AdamW.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    params = list(params)
    matrices = [(name, parameter) for name, parameter in params if name.startswith("blocks.") and parameter.dim() == 2]
    rest = [pair for pair in params if all(pair[1] is not matrix for _, matrix in matrices)]
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=lr, momentum=momentum, ns_steps=ns_steps, weight_decay=weight_decay))
    if rest:
        optimizers.append(AdamW(rest, lr=adamw_lr, weight_decay=weight_decay, **adamw))
    return CombinedOptimizer(optimizers)


class CombinedOptimizer(Optimizer):
    """Several optimizers with parameters of their own that step, save and are scheduled as one."""

    def __init__(self, optimizers: list[Optimizer]) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], defaults={})
        self._rebind_state()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Compute the loss if there is a closure, then step every optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state that ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        self._rebind_state()

    def _rebind_state(self) -> None:
        """Let every optimizer use the state and the groups of this one, which schedulers and checkpoints see."""
        groups = iter(self.param_groups)
        for optimizer in self.optimizers:
            optimizer.state = self.state
            optimizer.param_groups = [next(groups) for _ in optimizer.param_groups]
