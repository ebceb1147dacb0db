"""What the command lines of ``scripts/`` share: arguments, user errors and exit codes."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NoReturn

from gptladder.system.errors import UserError, os_error_message, printable

FAILED, USER_ERROR = 1, 2


def usage_error(message: str) -> NoReturn:
    """Raise the user error for an invalid command line."""
    raise UserError(f"{message}; see --help")


class ArgumentParser(argparse.ArgumentParser):
    """The parser of a script's arguments; an invalid one is a ``UserError``."""

    def error(self, message: str) -> NoReturn:
        usage_error(message)


def run_dir(name: str) -> Path:
    """The run directory that an argument names; ``latest`` is the one below outputs/ that was written last."""
    if name != "latest":
        return Path(name)
    patterns = ("*", "*/*", "*/*/*")  # `**` does not follow links
    checkpoints = chain.from_iterable(Path("outputs").glob(f"{pattern}/checkpoints/last.ckpt") for pattern in patterns)
    latest = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    if latest is None:
        raise UserError("--run latest: there is no run with a checkpoint below outputs/: name a run directory")
    return latest.parents[1]


def replace_unencodable() -> None:
    """Print a question mark for a character that the terminal or pipe has no code for, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def run_script(body: Callable[[], None]) -> None:
    """Run a script with one line and exit code 2 for a user error, and silently when the reader of a pipe is gone."""
    replace_unencodable()
    try:
        body()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        message = os_error_message(error)
        if message is None:
            raise
        print(f"error: {printable(message)}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
