"""The command line around Hydra's: help, one directory per run, one line for a user error."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gptladder import __version__
from gptladder.cli.script import replace_unencodable
from gptladder.cli.user_errors import report_user_errors
from gptladder.runs.environment import COMMAND
from gptladder.runs.run import Run
from gptladder.system import signals
from gptladder.system.commands import resume_command, train_command
from gptladder.system.errors import UserError

# The environment variable by which a process knows that Lightning started it for this command.
PARENT = "GPTLADDER_PARENT"

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def main(*, conf: Path) -> None:
    """Train as the arguments of the command line say, and exit with the promised code.

    0 finished, 1 failed (with a traceback), 2 user error (one line), 128 + signal number interrupted.

    Args:
        conf: the directory of the configs.
    """
    replace_unencodable()
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"gpt-ladder {__version__}")
        return
    if {"-h", "--help"} & set(arguments):
        from gptladder.cli.help import print_help

        print_help(conf)
        return
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # "generated new fontManager"
    atexit.register(gc.freeze)  # or the garbage collector scans torch and Lightning once more, for a second
    if PARENT in os.environ and "LOCAL_RANK" in os.environ:  # a process that Lightning started for another device
        _run_hydra(conf)
        return
    os.environ[PARENT] = str(os.getpid())
    # Without this variable Hydra prints errors itself, and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ[COMMAND] = train_command(*arguments)
    with report_user_errors(conf):
        check_started_once()
        with signals.exit_on_signals(), run_directory(arguments, conf) as sys.argv[1:]:
            _run_hydra(conf)


def _run_hydra(conf: Path) -> None:
    """Compose the config from ``sys.argv``, and run the job or the jobs of a sweep."""
    import hydra

    from gptladder.cli.train import train_job

    hydra.main(version_base="1.3", config_path=str(conf.absolute()), config_name="train")(train_job)()


def check_started_once() -> None:
    """Refuse a launcher that starts this command once per device: each would train a run of its own.

    Raises:
        UserError: names the launcher's variable, and what to use instead.
    """
    set_by = {
        "LOCAL_RANK": "torchrun",
        "RANK": "torchrun",
        "SLURM_STEP_NUM_TASKS": "srun",
        "SLURM_PROCID": "srun",
        "NODE_RANK": "a launcher of several nodes",
    }
    harmless = {"LOCAL_RANK": None, "SLURM_STEP_NUM_TASKS": "1"}  # elsewhere it is 0, the first of the processes
    for variable, launcher in set_by.items():
        value = os.environ.get(variable)
        if value not in (None, harmless.get(variable, "0")):
            raise UserError(
                f"{variable}={value} is set, as {launcher} does, but a run starts its processes itself: use "
                f"{train_command('hardware=ddp', 'hardware.devices=N')}, or launcher=slurm for a cluster"
            )


@contextmanager
def run_directory(arguments: list[str], conf: Path) -> Iterator[list[str]]:
    """The arguments with a directory for this run alone; after an error before the run began, it is removed again."""
    resumed = [argument for argument in arguments if argument.lstrip("+~").startswith("resume=")]
    with _resumed_run(resumed[0], arguments, conf) if resumed else _new_run(arguments, conf) as complete:
        yield complete


@contextmanager
def _resumed_run(resume: str, arguments: list[str], conf: Path) -> Iterator[list[str]]:
    from gptladder.cli.resume import check_extension, check_resumable, resume_arguments, split_config_dir

    config_dir, words = split_config_dir(arguments)
    extension = [word for word in words if word.startswith("trainer.max_steps=")][:1]
    refused = [word for word in words if word not in (resume, *extension)]
    if not resume.startswith("resume="):
        raise UserError(f"{resume}: write {resume.lstrip('+~')}")
    directory = resume.removeprefix("resume=").strip("'\"")
    path = check_resumable(directory, refused=refused, conf=conf, config_dir=config_dir)
    if extension:
        check_extension(extension[0], path)
    elif Run(path).finished:
        print(f"{path} is already finished; trainer.max_steps=N with more steps trains it for longer")
        raise SystemExit
    with report_stop() as started:
        started.append(path)
        yield resume_arguments(path, *extension)


@contextmanager
def _new_run(arguments: list[str], conf: Path) -> Iterator[list[str]]:
    """A run, a sweep, or the arguments of a command that only shows something."""
    from gptladder.cli.command_line import CommandLine
    from gptladder.cli.config_errors import check_renamed
    from gptladder.cli.run_directory import reserve_run_dir

    line = CommandLine(arguments, conf)
    check_renamed(line.overrides)
    if line.shows_only:
        yield line.shown_arguments()
        return
    line.check_settings()
    if line.is_sweep:
        yield line.sweep_arguments()
    else:
        with report_stop() as started, reserve_run_dir(line) as path:
            started.append(path)
            yield line.run_arguments(path)


@contextmanager
def report_stop() -> Iterator[list[Path]]:
    """Print at which step a signal stopped a run and how to resume it, also to its ``train.log``.

    The body adds the directory of the run to the list.
    """
    here = Path.cwd()  # a resumed run changes it
    started: list[Path] = []
    try:
        yield started
    except SystemExit as stop:
        if stop.code in STOPPED:
            message = _stop_message(started, here)
            print(message, file=sys.stderr)
            for log in (path / "train.log" for path in started):
                if log.exists():
                    with suppress(OSError), log.open("a") as file:
                        file.write(f"{message}\n")
        raise


def _stop_message(started: list[Path], here: Path) -> str:
    path = next(iter(started), None)
    checkpoint = None if path is None else Run(path).last_checkpoint
    if path is None or checkpoint is None:
        return "stopped before the first checkpoint: nothing was saved"
    from gptladder.runs.checkpoint import read_checkpoint

    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"stopped at step {read_checkpoint(checkpoint)['global_step']:,}; resume with: {resume_command(shown)}"
