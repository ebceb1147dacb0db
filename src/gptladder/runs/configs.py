"""Configs: the files of a config group, and recorded configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from gptladder.runs.old_records import RENAMED_VALUES, is_old_config, upgrade_config

# OmegaConf parses in Python and takes 15 ms per config; what Hydra wrote is plain YAML.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Where a checkout keeps its configs.
CONF = Path(__file__).parents[3] / "conf"


def sorted_by_inheritance(group: Path) -> list[Path]:
    """The files of a config group, each after the one that it inherits from; the rungs in the order of the ladder."""
    files = {path.stem: path for path in sorted(group.glob("*.yaml"))}
    return sorted(files.values(), key=lambda path: (_depth(path, files), path.stem))


def _depth(path: Path, files: dict[str, Path]) -> int:
    parents = [
        name
        for line in path.read_text().splitlines()
        if line.startswith("defaults: [")
        for name in line.removeprefix("defaults: [").rstrip("]").split(", ")
        if name in files
    ]
    return max((1 + _depth(files[name], files) for name in parents), default=0)


def first_comment(path: Path) -> str:
    """The first comment of a config that is not a directive for Hydra."""
    comments = (line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def describe_run(rung: str, choices: Mapping[str, Any], conf: Path = CONF) -> str | None:
    """What a run is, in a sentence; ``None`` without such a file.

    The comment of its ablation, or else of its model, or of the experiment that gave the rung another name.
    """
    for group in ("ablation", "model" if choices.get("model", rung) == rung else "experiment"):
        choice = choices.get(group, rung if group == "model" else None)
        path = conf / group / f"{choice}.yaml"
        if choice not in (None, "none") and path.is_file():
            return first_comment(path)
    return None


def recorded_choices(run_dir: Path) -> dict[str, Any]:
    """The choice of every config group of a run, as Hydra recorded it; empty without such a record."""
    try:
        recorded = yaml.load((run_dir / ".hydra" / "hydra.yaml").read_bytes(), Loader=YAML_LOADER)
        choices = recorded["hydra"]["runtime"]["choices"]
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return {}
    return {
        str(group): RENAMED_VALUES.get((str(group), choice), choice)
        for group, choice in choices.items()
        if "/" not in str(group)
    }


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested config with its dotted key."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load_config(path: Path) -> dict[str, Any]:
    """A recorded config as it stands, unresolved, under today's names.

    Raises:
        OSError, ValueError, yaml.YAMLError: it cannot be read as a config.
    """
    config = yaml.load(path.read_bytes(), Loader=YAML_LOADER)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a config")
    return upgrade_config(config) if is_old_config(config) else config
