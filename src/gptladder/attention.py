"""Looking inside: the attention weights of a net on a prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptladder.model import Attention, Average


@torch.inference_mode()
def attention_weights(net: nn.Module, idx: Tensor) -> list[Tensor]:
    """What every head of every layer reads.

    Args:
        net: in evaluation mode.
        idx: token numbers of a prompt, ``(T,)``.

    Returns:
        one ``(H, T, T)`` tensor a layer, on the CPU; empty for a rung that does not attend.
    """
    maps: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, Attention | Average)
        maps.append(module.weights(inputs[0])[0].float().cpu())

    gatherers = [module for module in net.modules() if isinstance(module, Attention | Average)]
    hooks = [module.register_forward_pre_hook(look) for module in gatherers]
    try:
        net.forward(idx.unsqueeze(0))  # a compiled net, when called, may not notice hooks
    finally:
        for hook in hooks:
            hook.remove()
    return maps
