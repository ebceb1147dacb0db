"""The lecture's GPT with compiled loops for its training step and its evaluation.

With 256 tokens per batch, more than half of a training step is not arithmetic: autograd records and frees a hundred
operations, each of which is called from Python and asks for new memory. Here the network is one operation, and the
steps that nothing observes do without autograd.

Sums are taken in another order than by PyTorch: outputs and gradients agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptladder.fast.lecture_gpt import is_lecture_gpt, is_traced, only_observed
from gptladder.fast.numba_arrays import Parameters
from gptladder.fast.numba_passes import Pass
from gptladder.model.attention import SHORT_CONTEXT
from gptladder.model.gpt import GPT, count_parameters
from gptladder.model.kv_cache import KVCache
from gptladder.model.loss import next_token_loss

NONE, OBSERVED, CHANGED = range(3)  # hooks of a network: none, some that only look, some that may change something
# Batches of more shapes than these share memory by turns.
MAX_SHAPES = 8
# Tokens that an evaluation computes at a time: with fewer, threads wait for each other between the compiled loops.
EVALUATED_TOKENS = 512
# In larger networks matrix products take most of the time, for which PyTorch can use several cores.
MAX_PARAMETERS = 400_000


def use_numba_gpt(net: nn.Module) -> None:
    """Let a network that ``NumbaGPT`` supports use compiled loops."""
    if type(net) is GPT and NumbaGPT.supports(net):
        net.__class__ = NumbaGPT


class NumbaGPT(GPT):
    """``GPT`` computed by ``forward_pass`` and ``backward_pass``, in fp32 or fp64 on a CPU."""

    plain_class = GPT

    @staticmethod
    def supports(net: GPT) -> bool:
        """Whether a network is the lecture's, without dropout, with short context, and small."""
        if net.arguments["block_size"] > SHORT_CONTEXT or net.arguments["dropout"] or not is_lecture_gpt(net):
            return False
        blocks: Any = net.blocks
        return count_parameters(net) <= MAX_PARAMETERS and not any(block.attention.dropout for block in blocks)

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        # With one block, PyTorch's evaluation is as fast.
        useful = torch.is_grad_enabled() or len(self.blocks) > 1
        snapshot = self._snapshot() if useful and cache is None else None
        if snapshot is None or not self._fits(idx):
            return super().forward(idx, cache)
        if snapshot.hooks == OBSERVED:
            with torch.no_grad():
                super().forward(idx)  # for the hooks, so that observing a run changes no bit of it
        if not torch.is_grad_enabled():
            return self._evaluate(idx, snapshot)
        logits: Tensor = GPTFunction.apply(idx, self, snapshot, *snapshot.parameters())  # type: ignore[no-untyped-call]
        return logits

    def gradients_without_autograd(self) -> LossAndGradients | None:
        """A function that computes gradients without autograd, to be used while the network stays as it is.

        Autograd itself takes a third of a step. Where something observes or changes outputs or gradients it is needed,
        and this is ``None``.
        """
        snapshot = self._snapshot()
        if snapshot is None or snapshot.hooks == OBSERVED or torch.is_anomaly_enabled():
            return None
        plain = not _is_called_differently(self) and all(map(_gets_plain_gradient, self.parameters()))
        return LossAndGradients(self, snapshot) if plain else None

    def _fits(self, idx: Tensor) -> bool:
        """Whether a batch has the right shape; for any other the plain network has its error."""
        return idx.dim() == 2 and idx.numel() > 0 and idx.size(1) <= int(self.arguments["block_size"])

    def _evaluate(self, idx: Tensor, snapshot: Snapshot) -> Tensor:
        """The logits of a batch, some windows at a time, whose activations stay in the cache of a core."""
        weights = snapshot.arrange(snapshot.parameters())
        logits = snapshot.empty_logits(idx)
        n_windows = max(1, EVALUATED_TOKENS // idx.size(1))
        for windows, out in zip(torch.split(idx, n_windows), torch.split(logits, n_windows), strict=True):
            gpt_pass, free = snapshot.take_pass(self, windows.shape)
            gpt_pass.forward(windows, weights, out)
            free.append(gpt_pass)
        return logits

    def _snapshot(self) -> Snapshot | None:
        """The current snapshot if compiled code may compute the network now."""
        if torch.is_autocast_enabled("cpu") or is_traced():
            return None
        snapshot = _snapshots.get(self)
        if snapshot is None or not snapshot.is_current():
            _snapshots[self] = snapshot = Snapshot(self)
        return snapshot if snapshot.supported else None


def _is_called_differently(module: nn.Module) -> bool:
    """Whether calling a module does something before or after its ``forward``, or something else."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module) or module._compiled_call_impl is not None


def _gets_plain_gradient(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and not parameter._backward_hooks and not parameter._post_accumulate_grad_hooks


class Snapshot:
    """A network as it was, so that a change is noticed, and the memory of its passes.

    Attributes:
        supported: every part is as it was built, and no hook may change an output.
        free_passes: passes that no backward is waiting for, by the shape of a batch.
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
        contiguous = all(parameter.is_contiguous() for parameter in parameters)
        self.supported = self.hooks != CHANGED and one_type and contiguous and NumbaGPT.supports(net)
        self.free_passes: dict[torch.Size, list[Pass]] = {}
        if self.supported:
            numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
            # the number of each parameter in `parameters()`, by kind and layer
            self.places = Parameters(*([numbers[id(p)] for p in kind] for kind in Parameters.from_net(net)))

    def is_current(self) -> bool:
        """Whether the network is as it was."""
        return all(now == then for now, then in self.children) and self._state() == self.state

    def parameters(self) -> list[nn.Parameter]:
        """Those of all modules, in the order of ``net.parameters()``."""
        return [p for module in self.modules for p in module._parameters.values() if p is not None]

    def arrange(self, tensors: Sequence[Tensor]) -> Parameters:
        """The arrays of parameters, or of their gradients, in the order of ``parameters()``, by kind and layer."""
        arrays = [tensor.detach().numpy() for tensor in tensors]
        return Parameters(*([arrays[number] for number in kind] for kind in self.places))

    def empty_logits(self, idx: Tensor) -> Tensor:
        """Memory for the logits of a batch, ``(B, T, V)``."""
        weight: Tensor = self.parameters()[self.places.head[0]]
        return weight.new_empty(*idx.shape, len(weight))

    def take_pass(self, net: GPT, shape: torch.Size) -> tuple[Pass, list[Pass]]:
        """A pass for a batch, and the list to which it returns."""
        if shape not in self.free_passes and len(self.free_passes) == MAX_SHAPES:
            self.free_passes.clear()
        free = self.free_passes.setdefault(shape, [])
        try:
            return free.pop(), free
        except IndexError:
            return Pass(net, shape), free

    def _state(self) -> list[Any]:
        """What may change although the modules are the same."""
        options = [(block.residual, block.attention.scale, block.attention.dropout) for block in self.blocks]
        parameters = [(id(p), p.shape, p.dtype, p.is_cpu, p.is_contiguous()) for p in self.parameters()]
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
        ctx.snapshot = snapshot
        ctx.gpt_pass, ctx.free_passes = snapshot.take_pass(net, idx.shape)
        logits = snapshot.empty_logits(idx)
        ctx.gpt_pass.forward(idx, snapshot.arrange(parameters), logits)
        ctx.save_for_backward(idx, *parameters)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logits: Tensor) -> tuple[Tensor | None, ...]:
        idx, *parameters = ctx.saved_tensors
        grads = [torch.empty_like(parameter) for parameter in parameters]
        arrange = ctx.snapshot.arrange
        ctx.gpt_pass.backward(idx, grad_logits.flatten(0, 1), arrange(parameters), arrange(grads))
        if not torch._C._autograd._get_current_graph_task_keep_graph():  # else there may be another backward
            ctx.free_passes.append(ctx.gpt_pass)
            ctx.gpt_pass = None
        return None, None, None, *grads


class LossAndGradients:
    """Computes the mean loss of a batch, and the gradients of all parameters, without autograd."""

    def __init__(self, net: NumbaGPT, snapshot: Snapshot) -> None:
        self.net = net
        self.snapshot = snapshot
        self.parameters = snapshot.parameters()
        self.grads = [torch.empty_like(parameter) for parameter in self.parameters]
        self.weights, self.out = snapshot.arrange(self.parameters), snapshot.arrange(self.grads)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss; the gradients overwrite those of the batch before."""
        if not self.net._fits(x):
            loss = next_token_loss(self.net(x), y)  # the error of the plain network
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        gpt_pass, free = self.snapshot.take_pass(self.net, x.shape)
        logits = self.snapshot.empty_logits(x)
        gpt_pass.forward(x, self.weights, logits)
        loss = next_token_loss(logits.requires_grad_(), y)
        (grad_logits,) = torch.autograd.grad(loss, logits)
        gpt_pass.backward(x, grad_logits.flatten(0, 1), self.weights, self.out)
        free.append(gpt_pass)
        for parameter, grad in zip(self.parameters, self.grads, strict=True):
            parameter.grad = grad
        return loss.detach()
