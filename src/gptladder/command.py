"""The command line around Hydra's: help for people, a directory for each run, one line for a mistake."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from gptladder import naming
from gptladder.errors import UserError

MISTAKE = 2


def main(train: Callable[[], None], *, conf: Path) -> None:
    """Run ``train`` as the command line says, and end with the exit code that users are promised.

    0 finished, 1 failed (with a traceback), 2 a mistake of the user's (one line), 128 + signal interrupted.

    Args:
        train: a function decorated with ``hydra.main``.
        conf: the directory of the configs.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        from gptladder.help import show_help

        show_help(conf)
        return
    if "LOCAL_RANK" in os.environ:  # a process that Lightning started for another device: all is settled
        train()
        return
    # Hydra would print its own account of an error and exit 1; this hands the error to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    naming.register()
    with one_line_for_mistakes(conf), exit_codes_for_signals(), run_directory(arguments, conf) as sys.argv[1:]:
        train()


@contextmanager
def run_directory(arguments: list[str], conf: Path) -> Iterator[list[str]]:
    """The arguments with a directory that no other run has; a mistake found before the run began leaves none."""
    from gptladder import directory

    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        yield directory.resumed(resumed[0].removeprefix("resume="), others=[a for a in arguments if a not in resumed])
    elif any(argument.startswith("-") for argument in arguments):  # a sweep names its own; --cfg and such need none
        yield arguments
    else:
        with directory.claimed(arguments, conf) as path:
            yield [*arguments, f"hydra.run.dir={naming.quoted(str(path))}"]


@contextmanager
def one_line_for_mistakes(conf: Path) -> Iterator[None]:
    """Turn what the user got wrong into one line and exit code 2; let our own errors keep their traceback."""
    try:
        yield
    except Exception as error:
        from gptladder.mistakes import explain

        explanation = explain(error, conf)
        if explanation is None:
            raise
        print(f"error: {explanation}", file=sys.stderr)
        raise SystemExit(MISTAKE) from None


@contextmanager
def exit_codes_for_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the program with 130 and 143, wherever it stands."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
