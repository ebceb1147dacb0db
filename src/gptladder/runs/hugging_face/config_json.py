"""Values of a ``config.json`` of ``transformers``, checked one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gptladder.system.errors import UserError


def read_integer(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A size; without a default it must be there, and null is the default.

    Raises:
        UserError: it is missing, or not a positive integer.
    """
    value = config.get(key)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        raise UserError(f"config.json has {key}={_short(value)}, which must be an integer >= 1")
    return value


def read_number(config: Mapping[str, Any], key: str, default: float) -> float:
    """A number above zero; raises a ``UserError`` for any other value."""
    value = config.get(key, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise UserError(f"config.json has {key}={_short(value)}, which must be a number > 0")
    return float(value)


def read_flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false; raises a ``UserError`` for any other value."""
    value = config.get(key, default)
    if type(value) is not bool:
        raise UserError(f"config.json has {key}={_short(value)}, which must be true or false")
    return value


def read_choice(config: Mapping[str, Any], key: str, default: str, choices: Mapping[str, str]) -> str:
    """Our word for one of theirs; raises a ``UserError`` for a word that we have none for."""
    value = config.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"config.json has {key}={_short(value)}, and only {', '.join(choices)} can be loaded")
    return choices[value]


def check_absent(config: Mapping[str, Any], *keys: str) -> None:
    """Raise a ``UserError`` if a key asks for something that our networks do not have; null, false or empty do not."""
    for key in keys:
        if config.get(key):
            raise UserError(f"config.json has {key}={_short(config[key])}, which gpt-ladder's networks do not have")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:50]}…"
