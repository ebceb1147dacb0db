"""Run directories before the run: reserve one, and release it if the run never started.

This happens before Hydra runs, because Hydra turns the errors of its own callbacks into warnings.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from gptladder.cli.command_line import CommandLine
from gptladder.runs.config_types import check_config
from gptladder.runs.configs import flatten
from gptladder.runs.run import Run
from gptladder.system import signals
from gptladder.system.errors import UserError

CONFIG = ".hydra/config.yaml"


@contextmanager
def reserve_run_dir(line: CommandLine) -> Iterator[Path]:
    """Reserve the directory that the config names for a single run, and release it if the run never starts.

    Raises:
        UserError: the directory that the user named holds a run, or the config is invalid.
    """
    requested = Path(complete_config(line).run_dir)
    named = any(override.lstrip("+").startswith("hydra.run.dir=") for override in line.overrides)
    with ExitStack() as cleanup:
        with signals.defer_signals():
            path, created = _reserve(requested) if named else _reserve_numbered(requested)
            cleanup.callback(_remove_empty, created)
            cleanup.callback(_release, path)
        yield path


def complete_config(line: CommandLine) -> DictConfig:
    """The config of a single run, with the absolute path of the directory that it asks for as ``run_dir``.

    Raises:
        UserError: the config is invalid.
    """
    cfg = line.compose()
    job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    with open_dict(job):
        job.run_dir = "run_dir"  # Hydra knows it only once the job runs; everything else must resolve now
    for key, value in flatten(cast(dict[str, Any], OmegaConf.to_container(job))):
        if value == MISSING and key == "rung":
            raise UserError("a run needs a rung: choose one, such as model=bigram")
        if value == MISSING:
            raise UserError(f"{key} must be given: add {key}=... to the command")
    HydraConfig.instance().set_config(cfg)  # hydra.run.dir may refer to hydra:runtime.choices
    check_config(cast(dict[str, Any], OmegaConf.to_container(job, resolve=True)))
    if cfg.get("fresh"):
        raise UserError("fresh=true deletes earlier results of a sweep: leave it out for a single run")
    directory = str(cfg.hydra.run.dir)
    if not directory:
        raise UserError("hydra.run.dir= is empty: name a directory, or leave it out")
    with open_dict(job):
        job.run_dir = str(Path(directory).absolute())
    return job


def _reserve(path: Path) -> tuple[Path, list[Path]]:
    """Reserve a directory; returns it, and the directories that had to be created, innermost first."""
    if (path / "result.json").exists():
        raise UserError(_occupied_message(path))
    created = _missing_parents(path)
    try:
        # Hydra writes to this folder later. Only one process can create it.
        (path / ".hydra").mkdir(parents=True)
    except FileExistsError:
        raise UserError(_occupied_message(path)) from None
    except OSError as error:
        raise UserError(
            f"hydra.run.dir={path} cannot be created ({error.strerror}): choose another directory"
        ) from None
    return path, created


def _reserve_numbered(path: Path) -> tuple[Path, list[Path]]:
    for number in count(1):
        with suppress(UserError):
            return _reserve(path if number == 1 else path.with_name(f"{path.name}-{number}"))
        if not path.exists():
            return _reserve(path)  # it cannot be created at all: raises the reason
    raise AssertionError("count() does not end")


def _has_started(path: Path) -> bool:
    return "config_hash" in Run.read(path)


def _release(path: Path) -> None:
    """Remove what Hydra and the job wrote for a run that never started; one that started keeps everything."""
    if not _has_started(path):
        shutil.rmtree(path / ".hydra", ignore_errors=True)
        for name in ("result.json", ".lock", "train.log"):
            (path / name).unlink(missing_ok=True)


def _missing_parents(path: Path) -> list[Path]:
    return [part for part in (path, *path.parents) if not part.exists()]


def _remove_empty(created: list[Path]) -> None:
    with suppress(OSError):  # another run may be in one of them by now
        for path in created:
            path.rmdir()


def _occupied_message(path: Path) -> str:
    if (path / "result.json").exists() or (path / CONFIG).exists():
        return f"hydra.run.dir={path} already holds a run: use resume={path} to resume it, or choose another directory"
    return (
        f"hydra.run.dir={path} is reserved by another run, or by one that was killed: "
        "choose another directory, or delete this one"
    )
