"""Configs: the files of a config group, and recorded configs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gptladder.runs.old_records import RENAMED_VALUES, is_old_config, upgrade_config
from gptladder.system.files import atomic_write
from gptladder.system.records import read_yaml

# The keys, of any of our configs, that name where a run writes.
OUTPUT_KEYS = (
    "run_dir", "dirpath", "filename", "checkpoint", "save_dir", "log_dir", "root_dir", "dir", "default_root_dir",
    "tracking_uri", "artifact_location",
)  # fmt: skip

# How a config names the run directory, which Hydra chooses.
RUN_DIR = "${hydra:runtime.output_dir}"
# References to other keys of a config, and to the run directory.
_INSIDE = re.compile(r"\$\{\.*[\w.\[\]]+\}|" + re.escape(RUN_DIR))

# The configs that come with the package. In a checkout this is a link to ``conf/`` at its root, which people edit.
CONF = (Path(__file__).parents[1] / "conf").resolve()


def sorted_by_inheritance(group: Path) -> list[Path]:
    """The files of a config group, each after the one that it inherits from; the rungs in the order of the ladder."""
    files = {path.stem: path for path in sorted(group.glob("*.yaml"))}
    parents = {
        name: [parent for parent in (read_yaml(path) or {}).get("defaults", []) if str(parent) in files]
        for name, path in files.items()
    }

    def depth(name: str) -> int:
        return max((1 + depth(parent) for parent in parents[name]), default=0)

    return sorted(files.values(), key=lambda path: (depth(path.stem), path.stem))


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
        choices = read_yaml(run_dir / ".hydra" / "hydra.yaml")["hydra"]["runtime"]["choices"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {
        str(group): RENAMED_VALUES.get((str(group), choice), choice)
        for group, choice in choices
        if "/" not in str(group)
    }


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested config with its dotted key."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def is_external(value: Any) -> bool:
    """Whether a value of a config depends on something else: the environment, the clock or another resolver."""
    return "${" in _INSIDE.sub("", str(value))


def record_resolved(run_dir: Path, resolved: Mapping[str, Any]) -> None:
    """Replace external values in ``.hydra/config.yaml`` by what they are now, so that a resumed run has the same ones.

    References to other keys stay, and so does the run directory, which may be moved.
    """
    path = run_dir / ".hydra" / "config.yaml"
    if not path.exists():
        return
    config = read_yaml(path)
    external = [key for key, value in flatten(config) if is_external(value)]
    for key in external:
        *parents, name = key.split(".")
        target, source = config, resolved
        for parent in parents:
            target, source = target[parent], source[parent]
        target[name] = _escaped(source[name])
    if external:
        with atomic_write(path) as file:
            file.write(OmegaConf.to_yaml(config).encode())


def record_value(run_dir: Path, key: str, value: Any) -> None:
    """Change one value in ``.hydra/config.yaml``."""
    path = run_dir / ".hydra" / "config.yaml"
    config = OmegaConf.create(read_yaml(path))
    OmegaConf.update(config, key, value)
    with atomic_write(path) as file:
        file.write(OmegaConf.to_yaml(config).encode())


def _escaped(value: Any) -> Any:
    """A resolved value whose text is not taken for an interpolation."""
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


def values_of(node: Any, name: str) -> Iterator[Any]:
    """Every value with that name anywhere in a config."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == name)
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from values_of(part, name)


def output_places(config: Any) -> Iterator[tuple[str, str, Path]]:
    """Where a resolved config writes: key, value and absolute path; not a ``filename`` that is a name alone."""
    for key in OUTPUT_KEYS:
        for value in values_of(config, key):
            if value is not None and not (key == "filename" and Path(str(value)).name == value):
                yield key, str(value), Path(os.path.abspath(re.sub(r"^\w+:///", "", str(value))))  # noqa: PTH100 - also without ..


def load_config(path: Path) -> dict[str, Any]:
    """A recorded config as it stands, unresolved, under today's names.

    Raises:
        OSError, ValueError: it cannot be read as a config.
    """
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a config")
    return upgrade_config(config) if is_old_config(config) else config
