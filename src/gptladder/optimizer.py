"""Optimizers that treat kinds of parameters differently, each still one torch optimizer.

They are built from ``net.named_parameters()``, which torch's own optimizers take as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

Named = Iterable[tuple[str, nn.Parameter]]


def adamw_decaying_matrices(params: Named, *, weight_decay: float, **options: Any) -> AdamW:
    """AdamW whose decay spares what has one dimension: gains and biases (as GPT-2 and nanoGPT do)."""
    params = list(params)
    groups = [
        {"params": [pair for pair in params if pair[1].dim() >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in params if pair[1].dim() < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], **options)


def muon(
    params: Named, *, lr: float, momentum: float, ns_steps: int, weight_decay: float, adamw_lr: float, **adamw: Any
) -> Together:
    """Muon for the matrices inside of layers, AdamW for the rest: tables, head, gains, biases.

    Args:
        params: names and parameters of a net.
        lr: of Muon, whose updates have singular values of about one.
        momentum, ns_steps, weight_decay: torch's names.
        adamw_lr: of AdamW.
        adamw: further options of AdamW.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    params = list(params)
    matrices = [(name, parameter) for name, parameter in params if name.startswith("layers.") and parameter.dim() == 2]
    rest = [pair for pair in params if all(pair[1] is not matrix for _, matrix in matrices)]
    parts: list[Optimizer] = []
    if matrices:
        parts.append(Muon(matrices, lr=lr, momentum=momentum, ns_steps=ns_steps, weight_decay=weight_decay))
    if rest:
        parts.append(AdamW(rest, lr=adamw_lr, weight_decay=weight_decay, **adamw))
    return Together(parts)


class Together(Optimizer):
    """Several optimizers, each with parameters of its own, that step, save and are scheduled as one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Compute the loss if asked, then let every part step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Make the parts work on this optimizer's own state and groups, which schedules and checkpoints see."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]
