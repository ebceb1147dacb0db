"""Run directories before the run: claimed by one process, given back if nothing began, or entered again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from gptladder.errors import UserError
from gptladder.naming import leaves, quoted
from gptladder.run import Run

CONFIG = ".hydra/config.yaml"


@contextmanager
def claimed(overrides: list[str], conf: Path) -> Iterator[Path]:
    """A directory for one single run, as the config names it and nobody else's.

    Raises:
        UserError: the directory that the user named holds a run, or a value that must be given is missing.
    """
    path = _wanted(overrides, conf)
    named = any(override.startswith("hydra.run.dir=") for override in overrides)
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path = _claim(path) if named else _claim_numbered(path)
    try:
        yield path
    finally:
        if not Run.read(path).get("config_hash"):  # the run never began
            shutil.rmtree(path / ".hydra", ignore_errors=True)
            (path / "result.json").unlink(missing_ok=True)
            with suppress(OSError):
                for made in (path, *(part for part in missing if part != path)):
                    made.rmdir()


def resumed(directory: str, *, others: list[str]) -> list[str]:
    """Arguments that go on with the run in ``directory``, from the config that it recorded.

    Raises:
        UserError: there is no run, or other arguments are given.
    """
    path = Path(directory.strip("'\"")).absolute()
    if not (path / CONFIG).is_file():
        raise UserError(f"resume={directory} is not a run directory: there is no {CONFIG} in it")
    if others:
        raise UserError(f"resume={directory} goes on with the run's own config: leave out {' '.join(others)}")
    recorded = _recorded_cwd(path)
    if recorded.is_dir():
        os.chdir(recorded)  # where a relative data.path was meant from
    # Hydra composes the record like any config; its own settings are not in it.
    settings = {"hydra.run.dir": path, "hydra.output_subdir": ".hydra/resumed"}
    given = [f"{key}={quoted(str(value))}" for key, value in settings.items()]
    return ["--config-path", str(path / ".hydra"), "--config-name", "config", *given, "hydra/job_logging=none"]


def _wanted(overrides: list[str], conf: Path) -> Path:
    from hydra import compose, initialize_config_dir
    from omegaconf import MISSING, OmegaConf

    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
        job = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
        for key, value in leaves(job):
            if value == MISSING:
                raise UserError(f"{key} must be given: add {key}=... to the command")
        return Path(cfg.hydra.run.dir).absolute()


def _claim(path: Path) -> Path:
    # Hydra writes its record there later; making the folder is what only one process can do.
    if (path / "result.json").exists():
        raise UserError(_taken(path))
    try:
        (path / ".hydra").mkdir(parents=True)
    except FileExistsError:
        raise UserError(_taken(path)) from None
    except OSError as error:
        raise UserError(f"hydra.run.dir={path} cannot be made ({error.strerror}): choose another") from None
    return path


def _claim_numbered(path: Path) -> Path:
    for number in count(1):
        with suppress(UserError):
            return _claim(path if number == 1 else path.with_name(f"{path.name}-{number}"))
        if not path.exists():
            return _claim(path)  # it cannot be made at all: say why
    raise AssertionError("count() does not end")


def _taken(path: Path) -> str:
    return f"hydra.run.dir={path} already holds a run: go on with resume={path}, or choose another directory"


def _recorded_cwd(path: Path) -> Path:
    from omegaconf import OmegaConf

    try:
        return Path(OmegaConf.load(path / ".hydra/hydra.yaml").hydra.runtime.cwd)
    except (OSError, AttributeError):
        return Path.cwd()
