"""A run to resume: check its directory, and compose its recorded config.

The directory may come from somebody else, and its config may have been edited: it instantiates nothing that our own
configs do not, reads nothing from the environment, and names no place to write to but the directory itself.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gptladder.cli.run_directory import CONFIG
from gptladder.runs.configs import RUN_DIR, flatten, load_config, reads_surroundings
from gptladder.runs.naming import quote_override
from gptladder.runs.old_records import is_old_config
from gptladder.system.errors import UserError
from gptladder.system.records import parse_yaml, read_yaml

# The keys, of any of our configs, that name where a run writes.
OUTPUT_KEYS = (
    "run_dir", "dirpath", "filename", "checkpoint", "save_dir", "log_dir", "root_dir", "dir", "default_root_dir",
    "tracking_uri", "artifact_location",
)  # fmt: skip


def check_resumable(directory: str, *, others: list[str], conf: Path) -> Path:
    """The directory of a run to resume.

    Raises:
        UserError: there is no run, its config does something that no config in ``conf`` does, or there are other
            arguments.
    """
    path = Path(directory).absolute()
    if not directory or not (path / CONFIG).is_file():
        raise UserError(f"resume={directory} is not a run directory: there is no {CONFIG} in it")
    if others:
        raise UserError(f"resume={directory} uses the run's own config: leave out {' '.join(others)}")
    _check_config(path / CONFIG, conf)
    return path


def resume_arguments(path: Path) -> list[str]:
    """The arguments that resume the run in ``path`` from its recorded config."""
    cwd = _original_cwd(path)
    if cwd.is_dir():
        os.chdir(cwd)  # data.path may be relative to it
    recorded_config = path / CONFIG
    if is_old_config(read_yaml(recorded_config)):  # the directory itself stays as it is
        upgraded = Path(tempfile.mkdtemp(prefix="gpt-ladder-"))
        atexit.register(shutil.rmtree, upgraded, ignore_errors=True)
        OmegaConf.save(load_config(recorded_config), upgraded / "config.yaml")
        recorded_config = upgraded / "config.yaml"
    # Hydra composes the recorded config like any other; its own settings are not part of it. Nothing is recorded
    # again, so that a run that is refused stays as it was.
    settings = [
        f"hydra.run.dir={quote_override(str(path))}",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    return ["--config-path", str(recorded_config.parent), "--config-name", "config", *settings]


def _check_config(recorded: Path, conf: Path) -> None:
    try:
        config = load_config(recorded)
    except (OSError, ValueError) as error:
        raise UserError(f"{recorded} cannot be read as a config ({error}): start a new run") from None
    if {"defaults", "hydra"} & config.keys():
        raise UserError(f"{recorded} was not written by train.py: start a new run")
    ours = (parse_yaml(path.read_text(encoding="utf-8")) for path in conf.rglob("*.yaml"))
    known = {target for config in ours for target in _values(config, "_target_")}
    foreign = sorted({str(target) for target in _values(config, "_target_")} - known)
    if foreign:
        raise UserError(f"refusing to instantiate {foreign[0]} from {recorded}: no config in {conf.name}/ names it")
    for key, value in flatten(config):
        if reads_surroundings(value):
            raise UserError(f"refusing to resolve {key}={value} from {recorded}: replace it by its value there")
    for key in OUTPUT_KEYS:
        for value in _values(config, key):
            if value is not None and not _is_inside(key, str(value), recorded.parents[1]):
                raise UserError(f"refusing to write to {key}={value} from {recorded}: that is not in the run directory")


def _is_inside(key: str, value: str, run_dir: Path) -> bool:
    """Whether the path, name or URI of a key lies in the run directory."""
    if key == "filename":
        return Path(value).name == value
    named = value == RUN_DIR or re.match(r"(\w+:///)?\$\{run_dir\}(/|$)", value)
    return bool(named or Path(value) == run_dir) and ".." not in Path(value).parts


def _values(node: Any, name: str) -> Iterator[Any]:
    """Every value with that name anywhere in a config."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == name)
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _values(part, name)


def _original_cwd(path: Path) -> Path:
    try:
        return Path(read_yaml(path / ".hydra/hydra.yaml")["hydra"]["runtime"]["cwd"])
    except (OSError, ValueError, LookupError, TypeError):
        return Path.cwd()
