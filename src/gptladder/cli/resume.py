"""A run to resume: check its directory, and compose its recorded config.

The directory may have been written or edited by anyone. Its config is refused if it instantiates a class that no config
in ``conf/`` names, reads the environment, or writes outside the directory.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gptladder.cli.run_directory import CONFIG
from gptladder.runs.config_types import foreign_targets, how_to_name_a_target
from gptladder.runs.configs import RUN_DIR, flatten, is_external, load_config, output_places, values_of
from gptladder.runs.naming import quote_override
from gptladder.runs.old_records import is_old_config
from gptladder.runs.run import Run
from gptladder.system.errors import UserError, first_line
from gptladder.system.records import read_yaml

MAX_DIGITS = 12  # of a number of steps


def split_config_dir(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The directory after ``--config-dir``, if there is one, and the other arguments.

    Raises:
        UserError: it is not a directory.
    """
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in ("--config-dir", "-cd"):
            continue
        rest = arguments[index + 1 :]
        if not equals:
            value, rest = "".join(rest[:1]), rest[1:]
        if not Path(value).is_dir() or not value:
            raise UserError(f"--config-dir {value} is not a directory")
        return Path(value), [*arguments[:index], *rest]
    return None, arguments


def check_resumable(directory: str, *, refused: list[str], conf: Path, config_dir: Path | None = None) -> Path:
    """The directory of a run to resume.

    Args:
        directory: as the user names it.
        refused: arguments that a resumed run does not take.
        conf: the directory of our configs.
        config_dir: that of the user's, if there is one.

    Raises:
        UserError: there is no run, its config does something that no config in these directories does, or an argument
            is refused.
    """
    path = Path(directory).absolute()
    if not directory or not (path / CONFIG).is_file():
        raise UserError(f"resume={directory} is not a run directory: there is no {CONFIG} in it")
    if refused:
        raise UserError(
            f"resume={directory} uses the run's own config, and only trainer.max_steps may change: "
            f"leave out {' '.join(refused)}"
        )
    _check_links(path)
    _check_config(path / CONFIG, conf, config_dir)
    return path


def resume_arguments(path: Path, *extension: str) -> list[str]:
    """The arguments that resume the run in ``path`` from its recorded config, with more steps if given."""
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
    return ["--config-path", str(recorded_config.parent), "--config-name", "config", *settings, *extension]


def _check_config(recorded: Path, conf: Path, config_dir: Path | None) -> None:
    try:
        config = load_config(recorded)
    except (OSError, ValueError) as error:
        raise UserError(f"{recorded} cannot be read as a config ({error}): start a new run") from None
    if {"defaults", "hydra"} & config.keys():
        raise UserError(f"{recorded} was not written by a run: start a new run")
    foreign = foreign_targets(config, conf, *([] if config_dir is None else [config_dir]))
    if foreign:
        raise UserError(
            f"refusing to instantiate {foreign[0]} from {recorded}: no config in {conf.name}/ names it; "
            f"if it is yours, {how_to_name_a_target()}"
        )
    for key, value in flatten(config):
        if is_external(value):
            raise UserError(f"refusing to resolve {key}={value} from {recorded}: replace it by its value there")
    if list(values_of(config, "_args_")):
        raise UserError(f"refusing _args_ in {recorded}: name the arguments there")
    run_dir = recorded.parents[1]
    resolved = _resolve(config, run_dir)
    for key, value, path in output_places(resolved):
        if not path.is_relative_to(run_dir):
            raise UserError(f"refusing to write to {key}={value} from {recorded}: that is not in the run directory")
    for cache in values_of(resolved, "cache"):
        if isinstance(cache, str) and not Path(cache).is_dir():
            raise UserError(f"refusing to make data.cache={cache} from {recorded}: make that directory first")


def _resolve(config: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """A recorded config with every reference resolved; the run directory is the one that it lies in."""
    own = config.get("run_dir") == RUN_DIR
    try:
        node = OmegaConf.create({**config, "run_dir": str(run_dir) if own else config.get("run_dir")})
        return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(f"the config in {run_dir} cannot be resolved: {first_line(error)}") from None


def _check_links(path: Path) -> None:
    """Refuse links out of the run directory, to which a resumed run would write."""
    inside = path.resolve()
    for entry in (*path.iterdir(), *(path / "checkpoints").glob("*"), *(path / ".hydra").glob("*")):
        if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
            raise UserError(f"refusing to write to {entry}: it is a link to {entry.resolve()}; put a copy in its place")


def check_extension(override: str, path: Path) -> None:
    """Check ``trainer.max_steps=N`` of a run that is trained for longer.

    Raises:
        UserError: it is no number of steps above those that the run has.
    """
    value = override.partition("=")[2]
    step = Run.read(path).get("step") or 0
    if not value.isdecimal() or len(value) > MAX_DIGITS or int(value) <= step:
        raise UserError(f"{override} must be an integer above the {step:,} steps that {path.name} has")


def _original_cwd(path: Path) -> Path:
    try:
        return Path(read_yaml(path / ".hydra/hydra.yaml")["hydra"]["runtime"]["cwd"])
    except (OSError, ValueError, LookupError, TypeError):
        return Path.cwd()
