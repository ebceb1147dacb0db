"""Compose and train from Python, as the command does, with exceptions instead of exit codes."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from hydra.core.singleton import Singleton
from omegaconf import DictConfig

from gptladder.api.run import Run
from gptladder.cli.command_line import CommandLine
from gptladder.cli.config_errors import check_renamed, error_message
from gptladder.cli.main import STOPPED, run_directory
from gptladder.cli.run_directory import complete_config
from gptladder.runs.config_types import forget_configs
from gptladder.runs.configs import CONF
from gptladder.runs.environment import COMMAND
from gptladder.system import signals
from gptladder.system.commands import in_python, train_command
from gptladder.system.errors import UserError

# Torch's random numbers, Hydra's state and the working directory belong to the whole process.
_training = threading.Lock()


def compose(*overrides: str) -> DictConfig:
    """The config of a run, checked as ``train`` checks it; nothing is written.

    Args:
        overrides: the words of the command, such as ``"model=multihead"`` or ``"optimizer.lr=1e-2"``.

    Returns:
        The config of the job; ``run_dir`` is the directory that a run started now would ask for.

    Raises:
        UserError: names the key, the value and the remedy.
    """
    with _hydra_state(), in_python(), _user_errors():
        return complete_config(_single_run(overrides))


def train(*overrides: str, resume: str | Path | None = None) -> Run:
    """Train one run in this process, in a directory of its own below the current one, and return it.

    The process is left as it was: torch's random state and threads, the working directory, signal handlers, logging,
    and the state of Hydra, if the caller uses it.

    Args:
        overrides: the words of the command, such as ``"model=multihead"`` or ``"trainer.max_steps=500"``.
        resume: the directory of a run to resume from its own recorded config; only ``trainer.max_steps=N`` may then be
            given, to train it for longer.

    Raises:
        UserError: names the key, the value and the remedy. A run that never started leaves no directory.
        KeyboardInterrupt: the run was interrupted, and saved where it stood; ``train(resume=run.path)`` resumes it.
    """
    words = [*overrides, *([] if resume is None else [f"resume={resume}"])]
    if not _training.acquire(blocking=False):
        raise UserError("another run trains in this process: wait for its end, or start this one in its own process")
    try:
        with _hydra_state(), in_python(), _process_state(words), _user_errors():
            if not any(str(word).startswith("resume=") for word in words):
                _single_run(words)
            return Run(_train(words))
    finally:
        _training.release()


def _train(words: list[str]) -> Path:
    """Train in a reserved directory; returns it."""
    paths: list[Path] = []
    errors: list[Exception] = []

    def job(cfg: DictConfig) -> None:
        paths.append(Path(cfg.run_dir))
        try:
            _train_job(cfg)
        except Exception as error:  # Hydra would print a line of its own
            errors.append(error)

    try:
        with signals.exit_on_signals(), run_directory(words, CONF) as arguments:
            CommandLine(arguments, CONF).run(job)
            if errors:
                raise errors[0]
    except SystemExit as stop:
        if stop.code in STOPPED:
            _interrupt(int(str(stop.code)) - 128)
        if stop.code is None:  # the run is finished already
            return Path(words[-1].partition("=")[2]).absolute()
        raise
    return paths[0]


def _train_job(cfg: DictConfig) -> None:
    import torch

    from gptladder.runs import run
    from gptladder.runs.train_log import log_output
    from gptladder.training.train import train as train_run

    n_threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    record = run.Run(cfg.run_dir)
    try:
        with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))), log_output(record):
            train_run(cfg, record)
    finally:
        torch.set_num_threads(n_threads)
        torch.use_deterministic_algorithms(deterministic)


def _interrupt(number: int) -> None:
    """Do what the signal would have done without a training: the run is saved."""
    if number != signal.SIGINT:
        signal.raise_signal(number)
    raise KeyboardInterrupt from None


def _single_run(overrides: tuple[str, ...] | list[str]) -> CommandLine:
    """The command line of one run.

    Raises:
        UserError: it asks for a sweep, or for something else than a run.
    """
    for override in overrides:
        if not isinstance(override, str):
            raise UserError(f"{override!r} is not an override: write it as text, such as 'model=multihead'")
    line = CommandLine(list(overrides), CONF)
    check_renamed(line.overrides)
    if line.shows_only:
        raise UserError(f"{' '.join(overrides)} trains nothing: gptladder.compose(...) shows a config")
    if line.swept:
        raise UserError(f"{line.swept[0]} has several values: call train once for each, or quote a value with commas")
    if line.is_sweep:
        command = train_command(*overrides)
        raise UserError(f"{' '.join(overrides)} is a sweep of several runs: start it with {command}")
    line.check_settings()
    return line


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what Hydra raises for a mistake of the user's into a ``UserError`` with the remedy."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = error_message(error, CONF)
        if message is None:
            raise
        raise UserError(message) from error


@contextmanager
def _hydra_state() -> Iterator[None]:
    """Read the configs anew, and restore the state of Hydra, which the caller may use too."""
    forget_configs()
    state = Singleton.get_state()
    try:
        yield
    finally:
        Singleton.set_state(state)


@contextmanager
def _process_state(words: list[str]) -> Iterator[None]:
    """Record the call as the command of the run; restore the environment, the directory and the warnings."""
    before = dict(os.environ)
    os.environ[COMMAND] = f"gptladder.train({', '.join(map(repr, words))})"
    try:
        with chdir("."), warnings.catch_warnings():
            # Lightning imports tqdm, which misses a package in notebooks; our bar needs neither.
            warnings.filterwarnings("ignore", message="IProgress not found")
            yield
    finally:
        for name in os.environ.keys() - before.keys():  # Lightning sets some too
            del os.environ[name]
        os.environ.update(before)
