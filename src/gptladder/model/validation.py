"""Sizes of a net that fit together; each check raises a ``UserError`` that says what to take instead."""

from __future__ import annotations

from gptladder.system.errors import UserError


def whole(least: int, **sizes: int) -> None:
    """Whole numbers of at least ``least``."""
    for name, size in sizes.items():
        if type(size) is not int or size < least:
            raise UserError(f"model.{name}={size} must be a whole number of at least {least}")


def one_of(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Names, each with those that are allowed."""
    for name, (choice, allowed) in choices.items():
        if choice not in allowed:
            raise UserError(f"model.{name}={choice} must be one of {', '.join(allowed)}")


def check_dropout(dropout: float) -> None:
    """A share that leaves something."""
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(f"model.dropout={dropout} must be a number from 0 to below 1")


def share(n_embd: int, n_head: int) -> int:
    """The channels of each head where the heads divide a width among them."""
    if n_embd % n_head:
        raise UserError(
            f"model.n_embd={n_embd} is not divisible by model.n_head={n_head}: "
            f"take n_embd={n_embd - n_embd % n_head or n_head}, or set model.head_size"
        )
    return n_embd // n_head


def check_width(width: int, *, n_embd: int, n_head: int, head_size: int, stacked: bool, tied: bool) -> None:
    """What comes out of a layer is as wide as what goes into the next, and into a head that reuses the table."""
    if width != n_embd and stacked:
        raise UserError(
            f"model.n_head={n_head} heads of model.head_size={head_size} give {width} channels, and layers that "
            f"stack or add need model.n_embd={n_embd}: set model.head_size=null or model.projection=true"
        )
    if width != n_embd and tied:
        raise UserError(f"model.tied=true needs a head as wide as model.n_embd={n_embd}, not {width}")


def check_modern(*, head_size: int, rotary: bool, init: str, ends_linear: bool) -> None:
    """What came after the lecture has conditions of its own."""
    if rotary and head_size % 2:
        raise UserError(f"model.rotary=true turns pairs of channels: take an even model.head_size, not {head_size}")
    if init == "zero" and not ends_linear:
        raise UserError(
            "model.init=zero lets layers begin by adding nothing, which takes model.residual=true, "
            "model.projection=true and a model.expansion other than 1"
        )
