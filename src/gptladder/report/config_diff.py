"""The differences between two configs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptladder.runs.configs import flatten

# What determines a result. Where a run writes, and what it displays, does not.
GROUPS = ("model", "data", "tokenizer", "optimizer", "scheduler", "trainer", "hardware")
ABSENT = "absent"


@dataclass(frozen=True)
class Change:
    """One key with its value before and after, as text; ``ABSENT`` where a config has no such key."""

    key: str
    before: str
    after: str

    @property
    def is_new(self) -> bool:
        return self.before == ABSENT

    @property
    def is_gone(self) -> bool:
        return self.after == ABSENT


def config_diff(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Every key with different values in two configs, in the order of the groups; empty if either config is."""
    if not before or not after:
        return []
    old, new = _flat_values(before), _flat_values(after)
    return [
        Change(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in {**new, **old}
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def summarize(changes: list[Change]) -> str:
    """``n_head 1 → 4, lr 0.01 → 0.001``; of the keys that are new with another class only the sizes."""
    return ", ".join(filter(None, map(_summarize, changes)))


def _summarize(change: Change) -> str:
    name = change.key.rpartition(".")[2]
    if change.after == ABSENT:
        return ""
    if name == "_target_":
        return " → ".join(value.rpartition(".")[2] for value in (change.before, change.after))
    if change.before == ABSENT:
        return f"{name} {change.after}" if change.after.isdecimal() and int(change.after) > 1 else ""
    return f"{name} {change.before} → {change.after}"


def _flat_values(config: dict[str, Any]) -> dict[str, str]:
    groups = {group: config[group] for group in GROUPS if isinstance(config.get(group), dict)}
    return {key: _format_value(value) for key, value in flatten(groups)}


def _format_value(value: Any) -> str:
    """As YAML writes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
