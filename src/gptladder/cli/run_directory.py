"""Run directories before the run: claimed by one process, given back if nothing began, or entered again."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import MISSING, OmegaConf

from gptladder.runs.configs import check_config, flatten, load_config
from gptladder.runs.naming import quote_override
from gptladder.runs.old_records import is_old_config
from gptladder.runs.run import Run
from gptladder.system import signals
from gptladder.system.errors import UserError

CONFIG = ".hydra/config.yaml"


@contextmanager
def reserve_run_dir(overrides: list[str], conf: Path) -> Iterator[Path]:
    """A directory for one single run, as the config names it and nobody else's.

    Raises:
        UserError: the directory that the user named holds a run, or the config has a mistake.
    """
    wanted = _wanted(overrides, conf)
    named = any(override.lstrip("+").startswith("hydra.run.dir=") for override in overrides)
    with ExitStack() as left:
        with signals.deferred():
            path, made = _claim(wanted) if named else _claim_numbered(wanted)
            left.callback(_remove_empty, made)
            left.callback(_give_back, path)
        yield path


def is_sweep(overrides: list[str], conf: Path) -> bool:
    """Whether the command is a sweep without saying ``-m``: an experiment that is one, or a plan of any run."""
    identity = [word for word in overrides if word.lstrip("+").startswith(("experiment=", "plan="))]
    if not identity:
        return False
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        cfg = compose("train", identity, return_hydra_config=True)
        return bool(cfg.plan) or cfg.hydra.mode == RunMode.MULTIRUN


def check_resumable(directory: str, *, others: list[str], conf: Path) -> Path:
    """The directory of a run to go on with.

    Raises:
        UserError: there is no run, its config would build what no config in ``conf`` does, or other arguments are
            given.
    """
    path = Path(directory).absolute()
    if not directory or not (path / CONFIG).is_file():
        raise UserError(f"resume={directory} is not a run directory: there is no {CONFIG} in it")
    if others:
        raise UserError(f"resume={directory} goes on with the run's own config: leave out {' '.join(others)}")
    _check_harmless(path / CONFIG, conf)
    return path


def _check_harmless(recorded: Path, conf: Path) -> None:
    """Refuse a record that would have Hydra build, and so run, what the configs of this checkout do not."""
    try:
        config = load_config(recorded)
    except (OSError, ValueError, yaml.YAMLError):
        raise UserError(f"{recorded} cannot be read as a config: start another run") from None
    ours = {target for path in conf.rglob("*.yaml") for target in _targets(yaml.safe_load(path.read_bytes()))}
    foreign = sorted({str(target) for target in _targets(config)} - ours)
    if not isinstance(config, dict) or {"defaults", "hydra"} & config.keys():
        raise UserError(f"{recorded} was not written by train.py: start another run")
    if foreign:
        raise UserError(f"{recorded} would run {foreign[0]}, which no file in {conf.name}/ names: add one that does")


def _targets(node: Any) -> Iterator[Any]:
    """What a config says is to be built."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _targets(part)


def resume_arguments(path: Path) -> list[str]:
    """Arguments that go on with the run in ``path``, from the config that it recorded."""
    recorded = _recorded_cwd(path)
    if recorded.is_dir():
        os.chdir(recorded)  # where a relative data.path was meant from
    recorded_config = path / CONFIG
    if is_old_config(yaml.safe_load(recorded_config.read_bytes())):  # the directory itself stays as it is
        upgraded = Path(tempfile.mkdtemp(prefix="gpt-ladder-"))
        atexit.register(shutil.rmtree, upgraded, ignore_errors=True)
        OmegaConf.save(load_config(recorded_config), upgraded / "config.yaml")
        recorded_config = upgraded / "config.yaml"
    # Hydra composes the record like any config; its own settings are not in it.
    # Nor is it recorded again: a run that is refused is as it was.
    given = [f"hydra.run.dir={quote_override(str(path))}", "hydra.output_subdir=null", "hydra/job_logging=none"]
    return ["--config-path", str(recorded_config.parent), "--config-name", "config", *given]


def _wanted(overrides: list[str], conf: Path) -> Path:
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        # The run's own path is known to Hydra only once it runs; everything else must resolve now.
        cfg = compose("train", [*overrides, "run_dir=run_dir"], return_hydra_config=True)
        job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        for key, value in flatten(OmegaConf.to_container(job)):
            if value == MISSING:
                raise UserError(f"{key} must be given: add {key}=... to the command")
        check_config(OmegaConf.to_container(job, resolve=True))
        wanted = str(cfg.hydra.run.dir)
    if not wanted:
        raise UserError("hydra.run.dir= is empty: name a directory, or leave it out")
    return Path(wanted).absolute()


def _claim(path: Path) -> tuple[Path, list[Path]]:
    """Make a directory the run's own; also the directories that had to be made for it, innermost first."""
    if (path / "result.json").exists():
        raise UserError(_taken(path))
    made = _missing(path)
    try:
        # Hydra writes its record there later; making the folder is what only one process can do.
        (path / ".hydra").mkdir(parents=True)
    except FileExistsError:
        raise UserError(_taken(path)) from None
    except OSError as error:
        raise UserError(f"hydra.run.dir={path} cannot be made ({error.strerror}): choose another") from None
    return path, made


def _claim_numbered(path: Path) -> tuple[Path, list[Path]]:
    for number in count(1):
        with suppress(UserError):
            return _claim(path if number == 1 else path.with_name(f"{path.name}-{number}"))
        if not path.exists():
            return _claim(path)  # it cannot be made at all: say why
    raise AssertionError("count() does not end")


def _began(path: Path) -> bool:
    return "config_hash" in Run.read(path)


def _give_back(path: Path) -> None:
    """Take away what Hydra wrote for a run that never began; one that began keeps everything."""
    if not _began(path):
        shutil.rmtree(path / ".hydra", ignore_errors=True)
        for name in ("result.json", ".lock", "train.log"):
            (path / name).unlink(missing_ok=True)


def _missing(path: Path) -> list[Path]:
    return [part for part in (path, *path.parents) if not part.exists()]


def _remove_empty(made: list[Path]) -> None:
    with suppress(OSError):  # somebody else's run is in it by now
        for path in made:
            path.rmdir()


def _taken(path: Path) -> str:
    if (path / "result.json").exists() or (path / CONFIG).exists():
        return f"hydra.run.dir={path} already holds a run: go on with resume={path}, or choose another directory"
    return f"hydra.run.dir={path} is being entered by another run, or was by one that was killed: choose another"


def _recorded_cwd(path: Path) -> Path:
    try:
        return Path(OmegaConf.load(path / ".hydra/hydra.yaml").hydra.runtime.cwd)
    except (OSError, AttributeError):
        return Path.cwd()
