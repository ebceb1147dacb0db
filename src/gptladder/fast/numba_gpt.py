"""The lecture's GPT with compiled loops for its training step.

With 256 tokens per batch, more than half of a training step is not arithmetic: autograd records and frees a hundred
operations, each of which is called from Python and asks for new memory. Here the network is one operation.

Sums are taken in another order than by PyTorch: outputs and gradients agree to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptladder.fast.numba_attention import NumbaSelfAttention
from gptladder.fast.numba_passes import Activations, Parameters, backward_pass, forward_pass
from gptladder.model.block import Block
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache


def use_numba_gpt(net: nn.Module) -> None:
    """Let a GPT whose attention is Numba's train with ``GPTFunction``, if that supports all its parts."""
    if type(net) is GPT and NumbaGPT.supports(net):
        net.__class__ = NumbaGPT


class NumbaGPT(GPT):
    """``GPT`` computed by ``GPTFunction`` where gradients are needed, in fp32 or fp64 on a CPU."""

    plain_class = GPT

    @staticmethod
    def supports(net: GPT) -> bool:
        """Whether every part is one of the lecture's, without dropout, and all blocks are alike."""
        embedding, head = net.embedding, net.lm_head
        ends_fit = embedding.previous is None and embedding.bigram is None and embedding.position is not None
        ends_fit = ends_fit and type(head) is nn.Linear and _fits(head, nn.Linear)
        ends_fit = ends_fit and head.weight is not embedding.token.weight and _fits(net.final_norm, nn.LayerNorm)
        return ends_fit and all(map(_supports_block, net.blocks)) and len(set(map(_options, net.blocks))) == 1

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        weight = self.lm_head.weight
        eligible = weight.is_cpu and weight.dtype in (torch.float32, torch.float64)
        eligible = eligible and idx.dim() == 2 and idx.numel() > 0 and idx.size(1) <= self.block_size
        if cache is not None or not eligible or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(idx, cache)
        parts = _parts.get(self)
        if parts is None or not parts.unchanged():
            _parts[self] = parts = Parts(self)
        if not parts.plain or torch.compiler.is_compiling():
            return super().forward(idx, cache)
        logits: Tensor = GPTFunction.apply(idx, self, parts.free_passes, *parts.parameters())  # type: ignore[no-untyped-call]
        return logits


def _supports_block(block: nn.Module) -> bool:
    attention: Any = block.attention
    mlp: list[nn.Module] = list(block.mlp or ())  # type: ignore[arg-type]
    return (
        type(block) is Block
        and type(attention) is NumbaSelfAttention
        and not attention.dropout
        and _fits(attention.projection, nn.Linear)
        and _fits(block.norm1, nn.LayerNorm)
        and _fits(block.norm2, nn.LayerNorm)
        and all(type(module) is nn.Identity for module in (block.post_norm1, block.post_norm2, block.dropout))
        and all(isinstance(module, nn.ReLU) for module in mlp[1:2])
        and all(_fits(module, nn.Linear) for module in mlp[::2])
    )


def _options(block: nn.Module) -> tuple[Any, ...]:
    """What must be the same in all blocks."""
    attention: Any = block.attention
    kinds = [type(module) for module in block.modules()]
    epsilons = [module.eps for module in block.modules() if isinstance(module, nn.LayerNorm)]
    return block.residual, attention.scale, attention.n_head, attention.head_size, *kinds, *epsilons


def _fits(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of a kind and has weight and bias, or does nothing."""
    has_both = type(module) is kind and module.weight is not None and module.bias is not None
    return has_both or type(module) is nn.Identity


class Parts:
    """The modules of a network as they were, and the memory of its passes.

    Attributes:
        plain: nobody has replaced a module by one that is not supported, or added a hook.
        free_passes: those that no backward is waiting for, by shape and precision.
    """

    def __init__(self, net: NumbaGPT) -> None:
        self.modules = list(net.modules())[1:]  # without the network, for which this is kept
        self.kinds = [type(module) for module in self.modules]
        self.children = [(module._modules, dict(module._modules)) for module in net.modules() if module._modules]
        self.hooked = self._have_hooks()
        self.plain = NumbaGPT.supports(net) and not self.hooked
        self.free_passes: dict[Any, list[Pass]] = defaultdict(list)

    def unchanged(self) -> bool:
        same = all(now == then for now, then in self.children) and [*map(type, self.modules)] == self.kinds
        return same and self._have_hooks() == self.hooked

    def parameters(self) -> list[nn.Parameter]:
        """Those of all modules, in the order of ``net.parameters()``."""
        return [p for module in self.modules for p in module._parameters.values() if p is not None]

    def _have_hooks(self) -> bool:
        for m in self.modules:
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks:
                return True
        return False


_parts: WeakKeyDictionary[GPT, Parts] = WeakKeyDictionary()


class GPTFunction(torch.autograd.Function):
    """``(B, T)`` token numbers and all parameters of a GPT to logits, ``(B, T, V)``."""

    @staticmethod
    def forward(ctx: Any, idx: Tensor, net: GPT, free: dict[Any, list[Pass]], *parameters: nn.Parameter) -> Tensor:
        ctx.free = free[idx.shape, parameters[0].dtype]
        ctx.work = ctx.free.pop() if ctx.free else Pass(net, idx.shape)
        logits: Tensor = ctx.work.forward(idx, parameters)
        return logits.view(*idx.shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.work is None:
            raise RuntimeError("backward a second time: the memory of the first time has other values now")
        work, ctx.work = ctx.work, None
        grads = work.backward(grad_logits.flatten(0, 1))
        ctx.free.append(work)
        return None, None, None, *grads


class Pass:
    """The forward and backward pass for batches of one shape, in memory of its own."""

    def __init__(self, net: Any, shape: torch.Size) -> None:
        n, n_time = shape.numel(), shape[1]
        parameters = Parameters.lists(net)
        stacked, out = Parameters.allocate(parameters), Parameters.allocate(parameters)
        self.activations = Activations.allocate(net, n, n_time, len(net.blocks))
        self.grads = Activations.allocate(net, n, n_time, 1)
        # where each parameter is among the stacked ones, in the order of `net.parameters()`
        places = {id(p): (kind, i) for kind, layers in enumerate(parameters) for i, p in enumerate(layers)}
        order = [places[id(parameter)] for parameter in net.parameters()]
        self.copies, self.results = ([stacks[kind][layer] for kind, layer in order] for stacks in (stacked, out))
        self.arrays = tuple(_arrays(tensors) for tensors in (stacked, self.activations, self.grads, out))
        block = net.blocks[0]
        norms = [module.eps for module in net.modules() if isinstance(module, nn.LayerNorm)]
        self.options = block.attention.scale, norms[0] if norms else 0.0, block.residual

    def forward(self, idx: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        """``(B, T)`` token numbers to logits, ``(N, V)``."""
        torch._foreach_copy_(self.copies, parameters)
        self.idx = idx.flatten()
        weights, activations, _, _ = self.arrays
        if not forward_pass(self.idx.numpy(), weights, activations, *self.options):
            raise IndexError("a token number is negative, or not below the size of the vocabulary")
        logits: Tensor = self.activations.logits[0]
        return logits.t().contiguous()

    def backward(self, grad: Tensor) -> list[Tensor]:
        """The gradients of all parameters from that of the logits, ``(N, V)``; autograd copies them."""
        self.grads.logits[0].copy_(grad.t())
        weights, activations, grads, out = self.arrays
        backward_pass(self.idx.numpy(), weights, activations, grads, out, *self.options)
        return self.results


def _arrays(tensors: Any) -> Any:
    """Lists with the array of each layer."""
    return type(tensors)(*(list(tensor.numpy()) for tensor in tensors))
