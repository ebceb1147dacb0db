"""Checks of model arguments; each raises a ``UserError`` that names the key, the value and the remedy."""

from __future__ import annotations

from gptladder.system.errors import UserError


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


def divide_heads(n_embd: int, n_head: int) -> int:
    """The channels of each head if the heads share ``n_embd``."""
    if n_embd % n_head:
        raise UserError(
            f"model.n_embd={n_embd} is not divisible by model.n_head={n_head}: "
            f"use n_embd={n_embd - n_embd % n_head or n_head}, or set model.head_size"
        )
    return n_embd // n_head


def check_width(
    width: int, *, n_embd: int, n_head: int, head_size: int, stacked: bool, residual: bool, tie_weights: bool
) -> None:
    """Check that a block's output is as wide as the next block's input, and as the token embedding if they share it."""
    if width != n_embd and (stacked or residual):
        raise UserError(
            f"model.n_head={n_head} heads of model.head_size={head_size} give {width} channels, but stacked or "
            f"residual blocks need model.n_embd={n_embd}: set model.head_size=null or model.projection=true"
        )
    if width != n_embd and tie_weights:
        raise UserError(f"model.tie_weights=true needs model.n_embd={n_embd} channels before the head, not {width}")


def check_options(*, head_size: int, rope: bool, init: str, ends_linear: bool) -> None:
    """Check the conditions of the options beyond the lecture."""
    if rope and head_size % 2:
        raise UserError(f"model.rope=true rotates pairs of channels: use an even model.head_size, not {head_size}")
    if init == "zero_residual" and not ends_linear:
        raise UserError(
            "model.init=zero_residual needs model.residual=true, model.projection=true and a model.expansion other "
            "than 1"
        )
