"""What differs between two configs, as a reader of the ladder would say it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptladder.runs.configs import flatten

# What is learnt and on what; where a run writes and how it is shown is nobody's ablation.
GROUPS = ("model", "data", "tokenizer", "optimizer", "scheduler", "trainer", "hardware")
ABSENT = "absent"


@dataclass(frozen=True)
class Change:
    """One key with its value before and after, as text."""

    key: str
    before: str
    after: str


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Every key of the recipe that two configs do not agree on, in the order of the groups; none if one is unknown."""
    if not before or not after:
        return []
    old, new = _recipe(before), _recipe(after)
    return [
        Change(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in {**new, **old}
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def said_shortly(changed: list[Change]) -> str:
    """``n_head 1 → 4, lr 0.01 → 0.001``; of what comes with another class only its sizes."""
    return ", ".join(filter(None, map(_shortly, changed)))


def _shortly(change: Change) -> str:
    name = change.key.rpartition(".")[2]
    if change.after == ABSENT:
        return ""
    if name == "_target_":
        return " → ".join(value.rpartition(".")[2] for value in (change.before, change.after))
    if change.before == ABSENT:
        return f"{name} {change.after}" if change.after.isdecimal() and int(change.after) > 1 else ""
    return f"{name} {change.before} → {change.after}"


def _recipe(config: dict[str, Any]) -> dict[str, str]:
    parts = {group: config[group] for group in GROUPS if isinstance(config.get(group), dict)}
    return {key: _text(value) for key, value in flatten(parts)}


def _text(value: Any) -> str:
    """As YAML says it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
