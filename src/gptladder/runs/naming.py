"""Names of the jobs of a sweep: readable, unique, and the same on every launch."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode

# Groups whose keys are unambiguous by their last part alone, which a test checks.
SHORT_GROUPS = ("model", "data", "optimizer", "trainer")

# Keys that describe the launch, not the job; the rung comes first in a name anyway.
LAUNCH_KEYS = ("model", "sweep", "experiment", "launcher", "fresh", "plan", "tags", "notes")


# The environment variable with the keys that differ among the jobs of a sweep, by which their workers are told apart.
VARYING = "GPTLADDER_VARYING"


def split_override(override: str) -> tuple[str, str]:
    """The key or group of an override, and its value."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def key_of(override: str) -> str:
    """The key or group of an override."""
    return split_override(override)[0]


def varying_keys(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The keys whose override is not the same for all jobs, given as the overrides of each."""
    overrides = [{key_of(word): word for word in words} for words in jobs]
    keys = sorted({key for words in overrides for key in words})
    return [key for key in keys if len({words.get(key) for words in overrides}) > 1]


def job_name(rung: str, overrides: Sequence[str]) -> str:
    """The rung, then every override by key: ``layernorm-lr0.01-seed2``.

    Hydra's ``override_dirname`` depends on the order of the overrides and may be too long for a file name. Where a
    value cannot be part of a file name, a digest of all overrides is added, so that no two jobs share a name.
    """
    settings = sorted(map(split_override, overrides))
    settings = [(key, value) for key, value in settings if key not in LAUNCH_KEYS]
    plain = "-".join([rung, *(_format_override(key, value) for key, value in settings)])
    name = re.sub(r"[^\w.+-]+", "_", plain)[:120]
    return name if name == plain else f"{name}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"


def job_label(rung: str, overrides: Sequence[str]) -> str:
    """The same for people: no digest, keys by their last part, and paths by file name. Two jobs may share a label."""
    settings = sorted(map(split_override, overrides))
    shown = [(key.rpartition(".")[2], _shorten_paths(value)) for key, value in settings if key not in LAUNCH_KEYS]
    return "-".join([rung, *(_format_override(key, value) for key, value in shown)])


def current_label(rung: str) -> str:
    """The label of the run in this process: with what varies in its sweep, without its seed."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return rung
    varying = os.environ.get(VARYING, "").split(",")
    shown = [word for word in hydra.overrides.task if key_of(word) in varying and key_of(word) != "seed"]
    return job_label(rung, shown)


def quote_override(value: str) -> str:
    """A value in quotes, as Hydra's override grammar takes it literally."""
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _shorten_paths(value: str) -> str:
    """A value without quotes, with the last part of every path in it."""
    return re.sub(r"[^,\[\]]*/", "", value.strip("'\""))


def _format_override(key: str, value: str) -> str:
    group, _, name = key.rpartition(".")
    if key == "ablation":  # the names of its choices speak for themselves
        return value
    return f"{name if group in SHORT_GROUPS else key}{value}"
