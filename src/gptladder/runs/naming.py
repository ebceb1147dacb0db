"""Names of the jobs of a sweep: readable and unique."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

# Groups whose keys are told apart by their last part alone; a test holds them to that.
SHORT_GROUPS = ("model", "data", "optimizer", "trainer")

# Said of the launch, not of the job.
NOT_OF_THE_JOB = ("model", "sweep", "experiment", "launcher", "fresh", "plan")


def job_name(rung: str, overrides: Sequence[str]) -> str:
    """The rung, then every override by key: ``layernorm-lr0.01-seed2``.

    Where a value cannot stand in a file name, a digest of all overrides is added, so that two jobs never meet.
    """
    settings = sorted(override.lstrip("+~").partition("=")[::2] for override in overrides)
    settings = [setting for setting in settings if setting[0] not in NOT_OF_THE_JOB]
    plain = "-".join([rung, *(_said(key, value) for key, value in settings)])
    name = re.sub(r"[^\w.+-]+", "_", plain)[:120]
    return name if name == plain else f"{name}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"


def quote_override(value: str) -> str:
    """A value as Hydra's override grammar takes it literally."""
    # A backslash is itself, unless quotes follow: those of the value, or the closing one.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def _said(key: str, value: str) -> str:
    group, _, name = key.rpartition(".")
    if key == "ablation":  # whose choices are names already
        return value
    return f"{name if group in SHORT_GROUPS else key}{value}"
