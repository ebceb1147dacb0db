"""Which networks are the lecture's GPT, and as they were built: only these may be computed by other code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gptladder.model.gpt import GPT

# The arguments of `GPT` that compiled code knows one value of.
LECTURE = {
    "positions": True,
    "attention": "softmax",
    "bias": True,
    "qkv_bias": False,
    "norm": "layernorm",
    "norm_affine": True,
    "activation": "relu",
    "tie_weights": False,
    "rope": False,
    "qk_norm": False,
    "n_prev_tokens": 0,
    "bigram_embedding": False,
}


def is_lecture_gpt(net: nn.Module, *, without_dropout: bool = False) -> bool:
    """Whether a network is a GPT with softmax attention and no part beyond the lecture, as it was built.

    Args:
        without_dropout: its dropout was removed, as ``lean_copy`` does.
    """
    if plain_type(net) is not GPT:
        return False
    arguments: dict[str, Any] = net.arguments  # type: ignore[assignment]
    known = all(arguments[name] == value for name, value in LECTURE.items())
    known = known and arguments["n_layer"] > 0 and arguments["norm_position"] in ("pre", "none")
    known = known and arguments["n_kv_head"] in (None, arguments["n_head"])
    known = known and arguments["head_bias"] in (None, True)
    return known and _is_as_built(net, **({"dropout": 0.0} if without_dropout else {}))


def is_traced() -> bool:
    """Whether something wants to see every operation."""
    by_functorch: bool = torch._C._are_functorch_transforms_active()
    by_jit: bool = torch._C._get_tracing_state() is not None
    return by_functorch or by_jit or torch.compiler.is_compiling()


def only_observed(module: nn.Module) -> bool:
    """Whether all forward hooks of a module, if any, say that they change nothing."""
    return all(getattr(hook, "only_observes", False) for hook in module._forward_hooks.values())


def plain_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module, or the plain one that it computes the same as."""
    plain: type[nn.Module] = getattr(type(module), "plain_class", type(module))
    return plain


def _is_as_built(net: nn.Module, **changes: Any) -> bool:
    """Whether modules, parameters and options are those of a network that is built from the same arguments."""
    with torch.device("meta"):  # without memory, and without drawing random numbers
        built = GPT(**{**net.arguments, **changes})  # type: ignore[dict-item]
    return _describe(net) == _describe(built)


def _describe(net: nn.Module) -> list[Any]:
    """The kind and the options of each module, and the shape of each parameter; a shared one comes once."""
    modules = [(name, plain_type(module), _options(module)) for name, module in net.named_modules()]
    return [modules, [(name, parameter.shape) for name, parameter in net.named_parameters()]]


def _options(module: nn.Module) -> dict[str, Any]:
    """Plain values among a module's attributes, such as ``eps``."""
    ignored = ("training", "dropout", "inplace")  # dropout matters in training only, where the argument is 0
    kinds = (bool, int, float, str, tuple)
    return {name: value for name, value in vars(module).items() if name not in ignored and isinstance(value, kinds)}
