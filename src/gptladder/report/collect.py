"""What run directories say: each ``result.json`` read, checked, and counted once."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from yaml import YAMLError

from gptladder.naming import job_name

# Nothing is looked for in what a run writes for itself.
INNER = {"tensorboard", "checkpoints", ".hydra"}
STATUSES = ("finished", "running", "interrupted", "failed", "pending")  # of two records of a run the former counts
NUMBERS = (
    "job", "seed", "step", "params", "train_estimate", "val_estimate", "val_loss", "val_bits_per_char", "tokens",
    "wall_seconds", "tokens_per_second",
)  # fmt: skip
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
    def seed(self) -> int | None:
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
            return re.sub(rf"-seed{self.seed}(?=-|$)", "", self.path.name)
        return self.rung

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
        return _yaml(self.path / ".hydra/config.yaml") or {}

    def number(self, key: str) -> float | None:
        return self.result.get(key)

    @property
    def identity(self) -> tuple[object, ...]:
        """What a copy of the run shares with it."""
        decisive = self.result.get("config_hash")
        if decisive is None:
            return (self.label, self.seed)
        # The same recipe on other hardware learns the same and is still another run.
        return (decisive, *(override for override in self.overrides or () if _is_of(override, "hardware")))


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
    return Reading(path, result, None if overrides is None else tuple(map(str, overrides)), status)


def _check(result: Any) -> None:
    """Raise a ValueError unless every value that the report shows is of its kind."""
    if not isinstance(result, dict) or result.get("status") not in STATUSES:
        raise ValueError("no status of ours")
    if not result.get("model") and result["status"] == "finished":
        raise ValueError("no model")
    for key in ("published", "versions"):
        if not isinstance(result.get(key) or {}, dict):
            raise ValueError(f"{key} is not an object")
    curve = result.get("curve") or []
    if not isinstance(curve, list) or not all(isinstance(point, dict) and "step" in point for point in curve):
        raise ValueError("curve is not a list of points")
    published = result.get("published") or dict.fromkeys(("train", "val", "max_abs_diff"))
    for owner, keys in ((result, NUMBERS), (published, ("train", "val", "max_abs_diff"))):
        for key in keys:
            if not isinstance(owner.get(key), int | float | None):
                raise ValueError(f"{key} is not a number")
    if not all(isinstance(value, int | float | None) for point in curve for value in point.values()):
        raise ValueError("curve has what is not a number")
    for key in TEXTS:
        if not isinstance(result.get(key), str | None):
            raise ValueError(f"{key} is not text")


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
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, YAMLError):
        return None


def _is_of(override: str, *groups: str) -> bool:
    return re.split(r"[.=/@]", override.lstrip("+~"), maxsplit=1)[0] in groups
