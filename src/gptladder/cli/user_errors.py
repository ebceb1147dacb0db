"""A user error on the command line: one line on stderr, and exit code 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gptladder.cli.script import FAILED, USER_ERROR, replace_unencodable
from gptladder.runs.configs import CONF
from gptladder.system.errors import SweepError, printable

Result = TypeVar("Result")


def exit_on_user_error(train: Callable[[Any], Result]) -> Callable[[Any], Result]:
    """Decorate the function of a job so that a user error in a single run is one line and exit code 2.

    Hydra prints a line of its own when a job raises an ``Exception``, but not for ``SystemExit``. In a sweep the
    exception reaches the launcher, and the other jobs run.
    """

    @functools.wraps(train)
    def train_or_exit(cfg: Any) -> Result:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        replace_unencodable()  # in a worker of a launcher too
        try:
            return train(cfg)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.RUN:
                _exit_if_user_error(error, CONF)
            raise

    return train_or_exit


@contextmanager
def report_user_errors(conf: Path) -> Iterator[None]:
    """Print one line for a user error and exit with 2; other errors keep their traceback."""
    try:
        yield
    except SweepError as error:
        print(printable(str(error)), file=sys.stderr)
        raise SystemExit(FAILED) from None
    except Exception as error:
        _exit_if_user_error(error, conf)
        raise


def _exit_if_user_error(error: Exception, conf: Path) -> None:
    from gptladder.cli.config_errors import error_message

    message = error_message(error, conf)
    if message is not None:
        print(f"error: {printable(message)}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
