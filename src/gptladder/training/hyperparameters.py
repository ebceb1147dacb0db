"""The hyperparameters of a run, as loggers show them."""

from __future__ import annotations

from typing import Any

from gptladder.runs.configs import flatten
from gptladder.runs.naming import SHORT_GROUPS

# Top-level keys that describe the launch.
LAUNCH_KEYS = ("choices", "run_dir", "sweep", "fresh", "plan", "tags", "notes", "init_from", "hydra", "defaults")
# Choices of groups that say something which no value says. That of `model` is the rung.
CHOICES = ("ablation", "tokenizer", "optimizer", "scheduler")
PATH_KEYS = ("path", "cache", "dirpath", "checkpoint", "run_dir")
DERIVED_KEYS = ("data.seed", "data.block_size", "rung_lr")  # equal to seed, model.block_size and, if used, optimizer.lr


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Every value of a config but null, paths, import paths and what describes the launch; and the choices of groups.

    The keys are those in the names of jobs.
    """
    shown = {}
    for key, value in flatten({name: part for name, part in config.items() if name not in LAUNCH_KEYS}):
        name = key.rpartition(".")[2]
        is_path = name in PATH_KEYS or (isinstance(value, str) and "/" in value)
        if not (value is None or is_path or name.startswith("_") or name == "defaults" or key in DERIVED_KEYS):
            plain = value if type(value) in (bool, int, float, str) else str(value)
            shown[shown_key(key)] = plain
    choices = config.get("choices") or {}
    return {**shown, **{group: choices[group] for group in CHOICES if choices.get(group)}}


def shown_key(key: str) -> str:
    """The name under which loggers show a key, or the group ``model``."""
    group, _, name = key.rpartition(".")
    return "rung" if key == "model" else name if group in SHORT_GROUPS else key
