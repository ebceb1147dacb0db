"""The step of ``torch.optim.AdamW`` with one step counter for all parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FusedAdamWStep:
    """Steps a fused AdamW on a CPU with PyTorch's own kernel, and the same bits.

    PyTorch increments a step counter for every parameter and collects its tensors anew at every step: for the 39
    parameters of ``layernorm`` half of 0.44 ms. Here the tensors are collected once, for some steps in a row.

    Uses the private ``torch._fused_adamw_``.
    """

    def __init__(self, optimizer: torch.optim.AdamW) -> None:
        self.optimizer = optimizer
        self._groups = []
        for group in optimizer.param_groups:
            states = [optimizer.state[parameter] for parameter in group["params"]]
            counter = states[0]["step"].clone()
            moments = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
            self._groups.append((group, *moments, [state["step"] for state in states], counter))

    @staticmethod
    def supports(optimizer: Any) -> bool:
        """Whether this can step an optimizer: a plain fused AdamW that has taken a step, all parameters together."""
        if type(optimizer) is not torch.optim.AdamW or has_step_hooks(optimizer):
            return False
        for group in optimizer.param_groups:
            states = [optimizer.state.get(parameter) for parameter in group["params"]]
            if not group["fused"] or group["amsgrad"] or group["differentiable"] or isinstance(group["lr"], Tensor):
                return False
            if not all(states) or not all(parameter.is_cpu for parameter in group["params"]):
                return False
            if len({float(state["step"]) for state in states if state}) != 1:
                return False
        return True

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the current gradients and learning rates; every parameter needs a gradient."""
        for group, means, squares, _, counter in self._groups:
            torch._fused_adamw_(
                group["params"],
                [parameter.grad for parameter in group["params"]],
                means,
                squares,
                [],
                [counter.add_(1)] * len(means),
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )

    def finish(self) -> None:
        """Give every parameter's own counter the number of steps taken."""
        for *_, counters, counter in self._groups:
            for own in counters:
                own.copy_(counter)


def has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether something is called before or after each step."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
