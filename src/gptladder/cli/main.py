"""The command line around Hydra's: help for people, a directory for each run, one line for a mistake."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gptladder.runs import naming
from gptladder.runs.run import Run
from gptladder.system import signals
from gptladder.system.errors import UserError

FAILED, MISTAKE = 1, 2


def main(train: Callable[[], Any], *, conf: Path) -> None:
    """Run ``train`` as the command line says, and end with the exit code that users are promised.

    0 finished, 1 failed (with a traceback), 2 a mistake of the user's (one line), 128 + signal interrupted.

    Args:
        train: a function decorated with ``hydra.main``.
        conf: the directory of the configs.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        from gptladder.cli.help import show_help

        show_help(conf)
        return
    atexit.register(gc.freeze)  # the collector would look through torch and Lightning once more: a second
    if "LOCAL_RANK" in os.environ:  # a process that Lightning started for another device: all is settled
        train()
        return
    # Hydra would print its own account of an error and exit 1; this hands the error to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with (
        report_user_errors(conf),
        signals.exit_on_signals(),
        run_directory(arguments, conf) as sys.argv[1:],
    ):
        train()


@contextmanager
def run_directory(arguments: list[str], conf: Path) -> Iterator[list[str]]:
    """The arguments with a directory that no other run has; a mistake found before the run began leaves none."""
    from hydra._internal.utils import get_args_parser

    from gptladder.cli.run_directory import check_resumable, is_sweep, reserve_run_dir, resume_arguments

    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        others = [argument for argument in arguments if argument not in resumed[:1]]
        path = check_resumable(resumed[0].removeprefix("resume="), others=others, conf=conf)
        if Run(path).finished:
            print(f"{path} is finished: there is nothing to go on with")
            raise SystemExit
        with report_stop(path):
            yield resume_arguments(path)
        return
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.multirun or is_sweep(options.overrides, conf):
        yield [*arguments, "hydra.mode=MULTIRUN"]
    elif any(argument.startswith("-") for argument in arguments):  # --cfg and such need no directory
        yield arguments
    else:
        with reserve_run_dir(arguments, conf) as path, report_stop(path):
            yield [*arguments, f"hydra.run.dir={naming.quote_override(str(path))}"]


@contextmanager
def report_stop(path: Path) -> Iterator[None]:
    """Say at which step a signal stopped a run, and how to resume it."""
    try:
        yield
    except SystemExit as stop:
        if stop.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            run = Run(path)
            shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
            if run.last_checkpoint is None:
                message = "stopped before the first checkpoint: nothing was saved"
            else:
                step = f"{saved_step(run.last_checkpoint):,}"
                message = f"stopped at step {step}; resume with: python train.py resume={shlex.quote(shown)}"
            print(message, file=sys.stderr)
        raise


def saved_step(checkpoint: Path) -> int:
    """The step at which a checkpoint was saved."""
    from gptladder.runs.checkpoint import read_checkpoint

    return int(read_checkpoint(checkpoint)["global_step"])


@contextmanager
def report_user_errors(conf: Path) -> Iterator[None]:
    """Turn what the user got wrong into one line and exit code 2; let our own errors keep their traceback."""
    from gptladder.cli.config_errors import explain
    from gptladder.system.errors import SweepError

    try:
        with _no_line_of_hydra(lambda error: explain(error, conf) is not None):
            yield
    except SweepError as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from None
    except Exception as error:
        explanation = explain(error, conf)
        if explanation is None:
            raise
        print(f"error: {explanation}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None


@contextmanager
def _no_line_of_hydra(is_mistake: Callable[[Exception], bool]) -> Iterator[None]:
    """Hydra says "Error executing job" before it hands on what ended a job; a mistake shall have one line only."""
    from hydra.core.utils import JobReturn

    of_hydra: Any = JobReturn.__dict__["return_value"]

    def return_value(job: JobReturn) -> Any:
        if isinstance(job._return_value, Exception) and is_mistake(job._return_value):
            raise job._return_value
        return of_hydra.fget(job)

    JobReturn.return_value = of_hydra.getter(return_value)  # type: ignore[method-assign]
    try:
        yield
    finally:
        JobReturn.return_value = of_hydra  # type: ignore[method-assign]


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; see --help")


class Parser(argparse.ArgumentParser):
    """Reads the arguments of a script; a mistake among them is one line as well."""

    def error(self, message: str) -> NoReturn:
        _refuse(message)


def script(body: Callable[[], None]) -> None:
    """Run a script with one line and exit code 2 for a mistake, and quietly when its reader goes away."""
    try:
        body()
        sys.stdout.flush()
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}: check the path, its rights and its disk", file=sys.stderr)
        raise SystemExit(MISTAKE) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
