"""Errors that a user can cause, each with a message of one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An invalid command, config or file: the message names the key, the value and the remedy. Exit code 2."""


class RunConflictError(UserError):
    """The directory holds a different run, which is left untouched."""


class RunLockedError(UserError):
    """Another process is writing to the run directory."""


class SweepError(Exception):
    """Some jobs of a sweep did not finish; the message names each with its reason. Exit code 1."""


def find_user_error(error: BaseException | None) -> UserError | None:
    """The user error in the chain behind an error; Hydra wraps what a constructor raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def suggest(name: str, names: Iterable[str], *, otherwise: Iterable[str] | None = None) -> str:
    """``did you mean X?`` with the nearest of ``names``; if none is close, a list of them, or of ``otherwise``."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names if otherwise is None else otherwise)}"
