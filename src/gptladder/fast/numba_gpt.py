"""The lecture's GPT with compiled loops for its training step.

With 256 tokens per batch, more than half of a training step is not arithmetic: autograd records and frees a hundred
operations, each of which is called from Python and asks for new memory. Here the network is one operation.

Sums are taken in another order than by PyTorch: outputs and gradients agree to rounding.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptladder.fast.lecture_gpt import is_lecture_gpt, is_traced, only_observed
from gptladder.fast.numba_passes import Activations, Options, Parameters, backward_pass, forward_pass
from gptladder.model.attention import SHORT_CONTEXT
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache

NONE, OBSERVED, CHANGED = range(3)  # hooks of a network: none, some that only look, some that may change something
# Batches of more shapes than these share memory by turns.
MAX_SHAPES = 8


def use_numba_gpt(net: nn.Module) -> None:
    """Let a network that ``NumbaGPT`` supports train with ``GPTFunction``."""
    if type(net) is GPT and NumbaGPT.supports(net):
        net.__class__ = NumbaGPT


class NumbaGPT(GPT):
    """``GPT`` computed by ``GPTFunction`` where gradients are needed, in fp32 or fp64 on a CPU."""

    plain_class = GPT

    @staticmethod
    def supports(net: GPT) -> bool:
        """Whether a network is the lecture's, without dropout and with short context."""
        plain = net.arguments["block_size"] <= SHORT_CONTEXT and not net.arguments["dropout"] and is_lecture_gpt(net)
        blocks: Any = net.blocks
        return plain and not any(block.attention.dropout for block in blocks)

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        if cache is not None or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_traced():
            return super().forward(idx, cache)
        if idx.dim() != 2 or not idx.numel() or idx.size(1) > self.block_size:
            return super().forward(idx, cache)  # its error
        snapshot = _snapshots.get(self)
        if snapshot is None or not snapshot.is_current():
            _snapshots[self] = snapshot = Snapshot(self)
        if not snapshot.supported:
            return super().forward(idx, cache)
        if snapshot.hooks == OBSERVED:
            with torch.no_grad():
                super().forward(idx)  # for the hooks, so that observing a run changes no bit of it
        logits: Tensor = GPTFunction.apply(idx, self, snapshot, *snapshot.parameters())  # type: ignore[no-untyped-call]
        return logits


class Snapshot:
    """A network as it was, so that a change is noticed, and the memory of its passes.

    Attributes:
        supported: every part is as it was built, and no hook may change an output.
        free_passes: passes that no backward is waiting for, by the shape and the type of a batch.
    """

    def __init__(self, net: NumbaGPT) -> None:
        self.modules = list(net.modules())[1:]  # without the network, for which this is kept
        self.blocks: list[Any] = list(net.blocks)
        self.norms: list[Any] = [module for module in self.modules if isinstance(module, nn.LayerNorm)]
        self.children = [(module._modules, dict(module._modules)) for module in net.modules() if module._modules]
        self.state = self._state()
        self.hooks = self._hooks()
        parameters = self.parameters()
        types = {(parameter.dtype, parameter.device.type) for parameter in parameters}
        one_type = len(types) == 1 and types <= {(torch.float32, "cpu"), (torch.float64, "cpu")}
        self.supported = one_type and NumbaGPT.supports(net) and self.hooks != CHANGED
        self.free_passes: dict[Any, list[Pass]] = {}

    def is_current(self) -> bool:
        """Whether the network is as it was."""
        return all(now == then for now, then in self.children) and self._state() == self.state

    def parameters(self) -> list[nn.Parameter]:
        """Those of all modules, in the order of ``net.parameters()``."""
        return [p for module in self.modules for p in module._parameters.values() if p is not None]

    def take_pass(self, net: GPT, idx: Tensor, dtype: torch.dtype) -> tuple[Pass, list[Pass]]:
        """A pass for a batch, and the list to which it returns."""
        key = idx.shape, dtype
        if key not in self.free_passes and len(self.free_passes) == MAX_SHAPES:
            self.free_passes.clear()
        free = self.free_passes.setdefault(key, [])
        try:
            return free.pop(), free
        except IndexError:
            return Pass(net, idx.shape), free

    def _state(self) -> list[Any]:
        """What may change although the modules are the same."""
        options = [(block.residual, block.attention.scale, block.attention.dropout) for block in self.blocks]
        parameters = [(id(p), p.dtype, p.is_cpu) for p in self.parameters()]
        epsilons = [norm.eps for norm in self.norms]
        return [*map(type, self.modules), *options, *epsilons, *parameters, self._hooks()]

    def _hooks(self) -> int:
        """Whether there are hooks, and whether all of them say that they change nothing."""
        if nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
            return CHANGED
        hooks = NONE
        for m in self.modules:
            if m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks or "forward" in m.__dict__:
                return CHANGED
            if m._forward_hooks:
                if not only_observed(m):
                    return CHANGED
                hooks = OBSERVED
        return hooks


_snapshots: WeakKeyDictionary[GPT, Snapshot] = WeakKeyDictionary()


class GPTFunction(torch.autograd.Function):
    """``(B, T)`` token numbers and all parameters of a GPT to logits, ``(B, T, V)``."""

    @staticmethod
    def forward(ctx: Any, idx: Tensor, net: GPT, snapshot: Snapshot, *parameters: nn.Parameter) -> Tensor:
        ctx.gpt_pass, ctx.free_passes = snapshot.take_pass(net, idx, parameters[0].dtype)
        logits: Tensor = ctx.gpt_pass.forward(idx, parameters)
        ctx.save_for_backward(idx)
        return logits.view(*idx.shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor | None, ...]:
        (idx,) = ctx.saved_tensors
        grads = ctx.gpt_pass.backward(idx, grad_logits.flatten(0, 1))
        if not torch._C._autograd._get_current_graph_task_keep_graph():  # else there may be another backward
            ctx.free_passes.append(ctx.gpt_pass)
            ctx.gpt_pass = None
        return None, None, None, *grads


class Pass:
    """The forward and backward pass for batches of one shape, in memory of its own."""

    def __init__(self, net: Any, shape: torch.Size) -> None:
        n, n_time = shape.numel(), shape[1]
        parameters = Parameters.from_net(net)
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
        self.options = Options(block.attention.scale, norms[0] if norms else 0.0, block.residual)

    def forward(self, idx: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
        """``(B, T)`` token numbers to logits, ``(N, V)``."""
        torch._foreach_copy_(self.copies, parameters)
        weights, activations, _, _ = self.arrays
        if not forward_pass(idx.flatten().numpy(), weights, activations, self.options):
            raise IndexError("a token number is negative, or not below the size of the vocabulary")
        logits: Tensor = self.activations.logits[0]
        return logits.t().clone(memory_format=torch.contiguous_format)

    def backward(self, idx: Tensor, grad: Tensor) -> list[Tensor]:
        """The gradients of all parameters from that of the logits, ``(N, V)``."""
        self.grads.logits[0].copy_(grad.t())
        weights, activations, grads, out = self.arrays
        backward_pass(idx.flatten().numpy(), weights, activations, grads, out, self.options)
        return [gradient.clone() for gradient in self.results]


def _arrays(tensors: Any) -> Any:
    """Lists with the array of each layer."""
    return type(tensors)(*(list(tensor.numpy()) for tensor in tensors))
