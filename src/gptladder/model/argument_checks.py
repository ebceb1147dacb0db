"""Checks of model arguments; each raises a ``UserError`` that names the key, the value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import psutil

from gptladder.model.block import ACTIVATIONS
from gptladder.model.init import INITIALIZATIONS
from gptladder.system.errors import UserError

# Of one kind in a network; building so many takes PyTorch seconds.
MAX_MODULES = 1000


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check all arguments of a ``GPT``, each by itself and then together."""
    a = arguments
    check_int(1, **{name: a[name] for name in ("block_size", "n_embd", "n_head")})
    check_int(0, **{name: a[name] for name in ("n_layer", "expansion", "n_prev_tokens")})
    check_int(1, **{name: a[name] for name in ("n_kv_head", "hidden_size") if a[name] is not None})
    if a["head_size"] is None:
        check_divisible(a["n_embd"], a["n_head"])
    else:
        check_int(1, head_size=a["head_size"])
    check_size(a)
    check_choice(
        attention=(a["attention"], ("mean", "softmax")),
        activation=(a["activation"], (*ACTIVATIONS, "swiglu")),
        norm=(a["norm"], ("layernorm", "rmsnorm")),
        norm_position=(a["norm_position"], ("none", "pre", "post")),
        init=(a["init"], tuple(INITIALIZATIONS)),
    )
    check_dropout(a["dropout"])
    check_positive(norm_eps=a["norm_eps"], rope_theta=a["rope_theta"])
    check_kv_heads(a)
    if a["hidden_size"] is not None and not a["expansion"]:
        raise UserError("model.expansion=0 leaves the feed-forward out: use model.hidden_size=null")
    head_size = a["head_size"] or a["n_embd"] // a["n_head"]
    if a["n_layer"] and not a["projection"]:
        needs_n_embd = a["n_layer"] > 1 or a["residual"]
        check_width(a["n_embd"], a["n_head"], head_size, stacked=needs_n_embd, tie_weights=a["tie_weights"])
    if a["rope"] and head_size % 2:
        raise UserError(f"model.rope=true rotates pairs of channels: use an even model.head_size, not {head_size}")
    if a["init"] == "zero_residual" and not (a["residual"] and a["projection"] and a["expansion"] != 1):
        raise UserError(
            "model.init=zero_residual needs model.residual=true, model.projection=true and a model.expansion other "
            "than 1"
        )


def check_size(arguments: Mapping[str, Any]) -> None:
    """Check that the network can be built at all: PyTorch would need minutes to find out, or all of the memory."""
    a = arguments
    for key in ("n_layer", "n_prev_tokens"):
        if a[key] > MAX_MODULES:
            raise UserError(f"model.{key}={a[key]} must be at most {MAX_MODULES}")
    width = a["n_head"] * (a["head_size"] or a["n_embd"] // a["n_head"])
    hidden = a["hidden_size"] or a["expansion"] * a["n_embd"]
    per_layer = 4 * width * a["n_embd"] + 2 * hidden * a["n_embd"]
    n_parameters = a["n_layer"] * per_layer + (2 * a["vocab_size"] + a["block_size"]) * a["n_embd"]
    n_mask = a["n_layer"] * a["block_size"] ** 2 if a["attention"] == "softmax" else 0
    needed, available = 4 * (n_parameters + n_mask), psutil.virtual_memory().total
    if needed > available:
        names = ("n_layer", "n_embd", "block_size", "hidden_size" if a["hidden_size"] else "expansion")
        sizes = ", ".join(f"model.{name}={a[name]}" for name in names)
        raise UserError(
            f"{sizes} need {needed / 1e9:,.0f} GB for weights and causal masks alone, and this machine has "
            f"{available / 1e9:,.0f}: use smaller sizes"
        )


def check_int(minimum: int, **sizes: int) -> None:
    """Check that sizes are integers of at least ``minimum``."""
    for name, size in sizes.items():
        if type(size) is not int or size < minimum:
            raise UserError(f"model.{name}={size} must be an integer >= {minimum}")


def check_choice(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Check values, each given with those that are allowed."""
    for name, (choice, allowed) in choices.items():
        if choice not in allowed:
            raise UserError(f"model.{name}={choice} must be one of {', '.join(allowed)}")


def check_dropout(dropout: float) -> None:
    """Check ``0 <= dropout < 1``."""
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise UserError(f"model.dropout={dropout} must be a number in [0, 1)")


def check_positive(**numbers: float) -> None:
    """Check numbers that must be finite and greater than zero."""
    for name, number in numbers.items():
        if type(number) not in (int, float) or not 0 < number < math.inf:
            raise UserError(f"model.{name}={number} must be a number > 0")


def check_kv_heads(arguments: Mapping[str, Any]) -> None:
    """Check that the query heads can be divided among the heads of keys and values."""
    n_head, n_kv_head = arguments["n_head"], arguments["n_kv_head"]
    if n_kv_head is None:
        return
    if n_head % n_kv_head:
        divisors = ", ".join(str(n) for n in range(1, n_head + 1) if n_head % n == 0)
        raise UserError(
            f"model.n_kv_head={n_kv_head} does not divide model.n_head={n_head}: use one of {divisors}, or null"
        )
    if arguments["attention"] == "mean" and n_kv_head != n_head:
        raise UserError("model.attention=mean has no queries to share its heads: use model.n_kv_head=null")


def check_divisible(n_embd: int, n_head: int) -> None:
    """Check that the heads can share ``n_embd`` channels."""
    if n_embd % n_head:
        raise UserError(
            f"model.n_embd={n_embd} is not divisible by model.n_head={n_head}: "
            f"use n_embd={n_embd - n_embd % n_head or n_head}, or set model.head_size"
        )


def check_width(n_embd: int, n_head: int, head_size: int, *, stacked: bool, tie_weights: bool) -> None:
    """Check that without a projection a block's output is as wide as what it is added to, stacked on or tied to."""
    width = n_head * head_size
    if width != n_embd and stacked:
        raise UserError(
            f"model.n_head={n_head} heads of model.head_size={head_size} give {width} channels, but stacked or "
            f"residual blocks need model.n_embd={n_embd}: set model.head_size=null or model.projection=true"
        )
    if width != n_embd and tie_weights:
        raise UserError(f"model.tie_weights=true needs model.n_embd={n_embd} channels before the head, not {width}")
