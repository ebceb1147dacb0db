"""What run directories say: each ``result.json`` read, checked, and counted once."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any

import yaml
from filelock import FileLock, Timeout

from gptladder.runs.naming import job_name

# OmegaConf parses in Python: 15 ms a config, where hundreds are read. What Hydra wrote is plain YAML.
FASTEST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Nothing is looked for in what a run writes for itself.
INNER = {"tensorboard", "checkpoints", ".hydra"}
STATUSES = ("finished", "running", "interrupted", "failed", "pending")  # of two records of a run the former counts
NUMBERS = (
    "job", "step", "params", "train_estimate", "val_estimate", "val_loss", "val_bits_per_char", "tokens",
    "wall_seconds", "tokens_per_second",
)  # fmt: skip
MEASURED = ("train_estimate", "val_estimate", "val_loss")  # at each point of a curve
TEXTS = ("model", "error", "sample", "command", "config_hash")


@dataclass(frozen=True)
class Reading:
    """One run as its directory tells it."""

    path: Path
    result: dict[str, Any]
    overrides: tuple[str, ...] | None
    status: str

    @property
    def rung(self) -> str:
        return self.result.get("model") or self.path.name

    @property
    def seed(self) -> int | str | None:
        """A number, or whatever a job that was refused called its seed."""
        return self.result.get("seed")

    @property
    def job(self) -> float:
        """Its place in the order of its sweep; a run outside of sweeps comes last."""
        job = self.result.get("job")
        return math.inf if job is None else job

    @property
    def label(self) -> str:
        """The run's name without its seed: runs that share it are repetitions."""
        if self.overrides is not None:
            kept = (override for override in self.overrides if not _is_of(override, "seed", "hydra"))
            return job_name(self.rung, list(kept))
        if self.result.get("job") is not None:  # a job that has not started is known by its directory alone
            return job_name(re.sub(rf"-seed{re.escape(str(self.seed))}(?=-|$)", "", self.path.name), [])
        return job_name(self.rung, [])

    @property
    def name(self) -> str:
        return self.label if self.seed is None else f"{self.label}, seed {self.seed}"

    @property
    def last_line(self) -> str:
        """What went wrong, without the way there."""
        lines = (self.result.get("error") or "").strip().splitlines()
        return lines[-1] if lines else "no reason recorded"

    @property
    def curve(self) -> list[dict[str, Any]]:
        return self.result.get("curve") or []

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as recorded, interpolations left as text; empty where there is none (yet)."""
        config = _yaml(self.path / ".hydra/config.yaml")
        return config if isinstance(config, dict) else {}

    @property
    def checkpoint(self) -> Path:
        """Where its last weights are, if it left any."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def sample(self) -> str:
        return self.result.get("sample") or ""

    def number(self, key: str) -> float | None:
        return self.result.get(key)

    @property
    def identity(self) -> tuple[object, ...]:
        """What a copy of the run shares with it."""
        identity = self.result.get("config_hash")
        if identity is None:
            return (self.label, self.seed)
        # The same recipe on other hardware learns the same and is still another run.
        return (identity, *(override for override in self.overrides or () if _is_of(override, "hardware")))


def collect(directory: Path) -> list[Reading]:
    """All runs in a directory, each once, those without a record of ours left out with a word on stderr."""
    readings = sorted(_readings(directory), key=lambda reading: STATUSES.index(reading.status))
    once: dict[tuple[object, ...], Reading] = {}
    for reading in readings:
        # On the machine that started it a job has more to say than where it was only planned.
        if not {reading.identity, (reading.label, reading.seed)} & once.keys():
            once |= dict.fromkeys((reading.identity, (reading.label, reading.seed)), reading)
    return list({id(reading): reading for reading in once.values()}.values())


def _readings(directory: Path) -> Iterator[Reading]:
    for path in _run_directories(directory):
        try:
            yield _read(path)
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())
            print(f"left out: {path}/result.json is not a record of a run ({what})", file=sys.stderr)


def _run_directories(directory: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(directory):
        folders[:] = sorted(set(folders) - INNER)
        if "result.json" in files:
            yield Path(place)


def _read(path: Path) -> Reading:
    result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    _check(result)
    status = result["status"]
    if status == "running" and not _is_held(path / ".lock"):
        status = "interrupted"  # whoever ran it was killed
    overrides = _yaml(path / ".hydra/overrides.yaml")
    return Reading(path, result, tuple(map(str, overrides)) if isinstance(overrides, list) else None, status)


def _check(result: Any) -> None:
    """Raise a ValueError unless every value that the report shows is of its kind."""
    if not isinstance(result, dict) or result.get("status") not in STATUSES:
        raise ValueError("no status of ours")
    if not result.get("model") and result["status"] == "finished":
        raise ValueError("no model")
    curve, published = result.get("curve") or [], result.get("published") or {}
    if not isinstance(curve, list) or not all(isinstance(point, dict) for point in curve):
        raise ValueError("curve is not a list of points")
    if not isinstance(published, dict) or not isinstance(result.get("versions") or {}, dict):
        raise ValueError("published or versions is not an object")
    _check_kinds(result, NUMBERS, int | float | None)
    _check_kinds(result, TEXTS, str | None)
    _check_kinds(result, ("seed",), int | str | None)
    for point in curve:
        _check_kinds(point, ("step",), int)
        _check_kinds(point, MEASURED, int | float | None)
    if published:
        _check_kinds(published, ("train", "val", "max_abs_diff"), int | float)


def _check_kinds(record: dict[str, Any], keys: Iterable[str], kinds: UnionType | type) -> None:
    for key in keys:
        if not isinstance(record.get(key), kinds):
            raise ValueError(f"{key} is {record.get(key)!r:.40}")


def _is_held(lock: Path) -> bool:
    """Whether a process is at work in the directory."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a copy that cannot be written to
        return False


def _yaml(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return yaml.load(file, FASTEST)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _is_of(override: str, *groups: str) -> bool:
    return re.split(r"[.=/@]", override.lstrip("+~"), maxsplit=1)[0] in groups
