"""Generation without the overhead of ``nn.Module`` calls."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from gptladder.model.attention import SHORT_CONTEXT, CausalSelfAttention
from gptladder.model.gpt import GPT, count_parameters

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


def can_decode(net: nn.Module) -> bool:
    """Whether ``numba_decoding`` knows every part of a lean copy, and is faster."""
    if not isinstance(net, GPT) or net.block_size <= SHORT_CONTEXT or count_parameters(net) > MAX_DECODED_PARAMETERS:
        return False
    small = all(parameter.is_cpu and parameter.dtype is torch.float32 for parameter in net.parameters())
    return small and bool(len(net.blocks)) and all(map(_can_decode_block, net.blocks))


def _can_decode_block(block: Any) -> bool:
    attention, mlp = block.attention, list(block.mlp or ())
    linears = [attention.projection, *mlp[::2]]
    norms = [block.norm1, block.norm2]
    return (
        block.residual
        and isinstance(attention, CausalSelfAttention)
        and attention.rope is None
        and attention.qkv.bias is None
        and attention.n_kv_head == attention.n_head
        and [*map(type, mlp[::2])] == [nn.Linear, nn.Linear]
        and isinstance(mlp[1], nn.ReLU)
        and all(type(norm) is nn.LayerNorm and norm.weight is not None and norm.bias is not None for norm in norms)
        and all(type(linear) is nn.Linear and linear.bias is not None for linear in linears)
        and all(
            type(part) is nn.Identity for part in (attention.qk_norm, block.post_norm1, block.post_norm2, block.dropout)
        )
    )
