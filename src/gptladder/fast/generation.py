"""Generation without the overhead of ``nn.Module`` calls."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from gptladder.fast.lecture_gpt import is_lecture_gpt
from gptladder.model.attention import SHORT_CONTEXT
from gptladder.model.gpt import GPT

# Weights that fit into a core's cache. Larger networks wait for memory, and PyTorch's kernels use several cores.
MAX_DECODED_PARAMETERS = 2_000_000


def lean_copy(net: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode that shares its weights and calls ``forward`` directly.

    ``nn.Module`` looks for hooks at every call, and for weights in three dictionaries: a quarter of the time of a
    token. The copy ignores hooks, and cannot be moved or trained.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    lean = copy.deepcopy(net, shared)
    for module in list(lean.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and not child.training:
                setattr(module, name, nn.Identity())
    for module in lean.modules():
        vars(module).update(module._parameters | module._buffers | module._modules)
        module._compiled_call_impl = module.forward
    return lean


def can_decode(lean: nn.Module) -> bool:
    """Whether ``numba_decoding`` knows every part of a lean copy, and is faster."""
    if not isinstance(lean, GPT) or lean.block_size <= SHORT_CONTEXT or lean.training:
        return False
    parameters = list(lean.parameters())
    small = sum(parameter.numel() for parameter in parameters) <= MAX_DECODED_PARAMETERS
    arguments = lean.arguments
    wanted = arguments["residual"] and arguments["projection"] and arguments["norm_position"] == "pre"
    wanted = wanted and arguments["expansion"] > 1
    fp32 = all(parameter.is_cpu and parameter.dtype is torch.float32 for parameter in parameters)
    return small and wanted and fp32 and is_lecture_gpt(lean, without_dropout=True)
