"""The hyperparameters of a run, as loggers show them."""

from __future__ import annotations

from typing import Any

from gptladder.runs.configs import flatten
from gptladder.runs.naming import SHORT_GROUPS

# Top-level keys that describe the launch.
LAUNCH_KEYS = ("choices", "run_dir", "sweep", "fresh", "plan", "init_from")
PATH_KEYS = ("path", "cache", "dirpath", "checkpoint", "run_dir")
DERIVED_KEYS = ("data.seed", "data.block_size")  # which are equal to seed and model.block_size


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Every value of a config but null, paths, import paths and what describes the launch.

    The keys are those in the names of jobs.
    """
    shown = {}
    for key, value in flatten({name: part for name, part in config.items() if name not in LAUNCH_KEYS}):
        group, _, name = key.rpartition(".")
        is_path = name in PATH_KEYS or (isinstance(value, str) and "/" in value)
        if not (value is None or is_path or name.startswith("_") or key in DERIVED_KEYS):
            plain = value if type(value) in (bool, int, float, str) else str(value)
            shown[name if group in SHORT_GROUPS else key] = plain
    return shown
