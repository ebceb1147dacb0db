"""Load the runs of a directory: read and check each ``result.json``, and drop copies of the same run."""

from __future__ import annotations

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

from gptladder.runs.configs import describe_run
from gptladder.runs.naming import LAUNCH_KEYS, job_name, key_of
from gptladder.runs.old_records import RENAMED_VALUES
from gptladder.runs.published import VERDICTS
from gptladder.runs.run import checkpoint_path, error_summary, is_locked
from gptladder.system.errors import printable
from gptladder.system.records import read_json, read_yaml

SKIPPED_DIRECTORIES = {"tensorboard", "checkpoints", ".hydra"}  # what a run writes contains no other runs
MAX_STEP = 10**12
STATUSES = (
    "finished",
    "stopped",
    "running",
    "interrupted",
    "failed",
    "pending",
)  # of two records of one run the first wins
NUMBERS = (
    "job", "step", "params", "train_estimate", "val_estimate", "val_loss", "val_bits_per_char", "tokens",
    "wall_seconds", "tokens_per_second",
)  # fmt: skip
CURVE_METRICS = ("train_estimate", "val_estimate", "val_loss")
TEXTS = ("model", "error", "stopped_by", "sample", "command", "config_hash", "description", "notes")


@dataclass(frozen=True)
class RunRecord:
    """One run, as recorded in its directory."""

    path: Path
    result: dict[str, Any]
    overrides: tuple[str, ...] | None
    status: str

    @property
    def rung(self) -> str:
        return self.result.get("model") or self.path.name

    @property
    def seed(self) -> int | str | None:
        """An integer; of a job with an invalid seed, that seed as text."""
        return self.result.get("seed")

    @property
    def job(self) -> float:
        """The number of the job in its sweep; infinite for a run outside of a sweep, so that it sorts last."""
        job = self.result.get("job")
        return math.inf if job is None else job

    @property
    def settings(self) -> dict[str, str]:
        """The overrides by key, without the rung, the seed, and how the run was launched."""
        keys = {key_of(override): override for override in self.overrides or ()}
        return {key: text for key, text in keys.items() if key not in LAUNCH_KEYS and not _is_of(key, "seed", "hydra")}

    @property
    def ablation(self) -> str:
        """The choice of the config group ``ablation`` under today's name, or ``none``."""
        choice = self.settings.get("ablation", "ablation=none").partition("=")[2]
        return str(RENAMED_VALUES.get(("ablation", choice), choice))

    @property
    def label(self) -> str:
        """The name of the run without its seed: the same for repetitions with other seeds."""
        if self.overrides is not None:
            return job_name(
                self.rung, [override for override in self.overrides if not _is_of(override, "seed", "hydra")]
            )
        if self.result.get("job") is not None:  # a job that has not started: only its directory has a name
            return job_name(re.sub(rf"-seed{re.escape(str(self.seed))}(?=-|$)", "", self.path.name), [])
        return job_name(self.rung, [])

    @property
    def description(self) -> str:
        """What the run is, in a sentence: as recorded, or else from the configs of this checkout; may be empty."""
        recorded = self.result.get("description")
        return recorded or describe_run(self.rung, {"ablation": self.ablation}) or ""

    @property
    def error_summary(self) -> str:
        """The last line of the error, without the traceback."""
        return error_summary(self.result)

    @property
    def curve(self) -> list[dict[str, Any]]:
        return self.result.get("curve") or []

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config as recorded, with interpolations unresolved; empty if there is none (yet)."""
        config = _read_yaml(self.path / ".hydra/config.yaml")
        return config if isinstance(config, dict) else {}

    @property
    def checkpoint(self) -> Path:
        """The path of the last checkpoint, which may not exist."""
        return checkpoint_path(self.path)

    @property
    def sample(self) -> str:
        return self.result.get("sample") or ""

    @property
    def step(self) -> int:
        return int(self.result.get("step") or 0)

    @property
    def stopped_by(self) -> str:
        """What ended the run before its last step; empty if nothing did."""
        return self.result.get("stopped_by") or ""

    @property
    def tags(self) -> list[str]:
        return self.result.get("tags") or []

    @property
    def notes(self) -> str:
        return self.result.get("notes") or ""

    def number(self, key: str) -> float | None:
        return self.result.get(key)

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for copies of one run."""
        config_hash = self.result.get("config_hash")
        if config_hash is None:
            return (self.label, self.seed)
        # The same recipe on other hardware gives the same losses, but it is another run.
        return (config_hash, *(override for override in self.overrides or () if _is_of(override, "hardware")))


def load_runs(directory: Path) -> list[RunRecord]:
    """Load all runs in a directory, each once; a ``result.json`` that is not a run result is skipped with a message."""
    records = sorted(_read_records(directory), key=lambda record: STATUSES.index(record.status))
    unique: dict[tuple[object, ...], RunRecord] = {}
    for record in records:
        # A job that one machine planned and another one ran has a record on both, the first without a config hash.
        if not {record.identity, (record.label, record.seed)} & unique.keys():
            unique |= dict.fromkeys((record.identity, (record.label, record.seed)), record)
    return list({id(record): record for record in unique.values()}.values())


def _read_records(directory: Path) -> Iterator[RunRecord]:
    for path in _run_directories(directory):
        try:
            yield _read_record(path)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            print(printable(f"skipped {path}/result.json: not a run result ({reason})"), file=sys.stderr)


def _run_directories(directory: Path) -> Iterator[Path]:
    seen = set()  # links may form a loop
    for path, subdirectories, files in os.walk(directory, followlinks=True):
        if (real := os.path.realpath(path)) in seen:
            subdirectories.clear()
            continue
        seen.add(real)
        subdirectories[:] = sorted(set(subdirectories) - SKIPPED_DIRECTORIES)
        if "result.json" in files:
            yield Path(path)


def _read_record(path: Path) -> RunRecord:
    result = read_json(path / "result.json")
    _check_result(result)
    status = result["status"]
    if status == "running" and not is_locked(path):
        status = "interrupted"  # its process was killed before it could record that
    overrides = _read_yaml(path / ".hydra/overrides.yaml")
    return RunRecord(path, result, tuple(map(str, overrides)) if isinstance(overrides, list) else None, status)


def _check_result(result: Any) -> None:
    """Raise a ValueError unless every value that the report shows has the right type."""
    if not isinstance(result, dict) or result.get("status") not in STATUSES:
        raise ValueError("no known status")
    if not result.get("model") and result["status"] == "finished":
        raise ValueError("no model")
    curve, published = result.get("curve") or [], result.get("published") or {}
    if not isinstance(curve, list) or not all(isinstance(point, dict) for point in curve):
        raise ValueError("curve is not a list of points")
    if not isinstance(published, dict) or not isinstance(result.get("versions") or {}, dict):
        raise ValueError("published or versions is not an object")
    _check_types(result, NUMBERS, int | float | None)
    _check_types(result, TEXTS, str | None)
    _check_types(result, ("seed",), int | str | None)
    tags = result.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"tags is {tags!r:.40}")
    for point in curve:
        _check_types(point, ("step",), int)
        if not 0 <= point["step"] < MAX_STEP:
            raise ValueError(f"step is {point['step']}")
        _check_types(point, CURVE_METRICS, int | float | None)
    if published:
        published = {"worst_abs_diff": 0, "tolerance": 0} | published  # which version 0.1 did not record
        _check_types(published, ("train", "val", "max_abs_diff", "worst_abs_diff", "tolerance"), int | float)
        if str(published.get("verdict")) not in VERDICTS:
            raise ValueError(f"verdict is {published.get('verdict')!r:.40}")


def _check_types(record: dict[str, Any], keys: Iterable[str], types: UnionType | type) -> None:
    for key in keys:
        if not isinstance(record.get(key), types):
            raise ValueError(f"{key} is {record.get(key)!r:.40}")


def _read_yaml(path: Path) -> Any:
    try:
        return read_yaml(path)
    except (OSError, ValueError):
        return None


def _is_of(override: str, *groups: str) -> bool:
    return re.split(r"[.=/@]", override.lstrip("+~"), maxsplit=1)[0] in groups
