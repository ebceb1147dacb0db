"""Mistakes that a user can make, told in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: its message names the key, the value and the remedy; exit code 2."""


class RunConflictError(UserError):
    """A mistake that concerns somebody else's run: it is said, and nothing of that run is touched."""


class RunLockedError(UserError):
    """Another process is writing in a run directory."""


class SweepError(Exception):
    """Some jobs of a sweep did not finish; the message names each with its reason. Exit code 1."""


def find_user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake behind an error, which Hydra wraps in its own if a constructor found it."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def suggest(name: str, names: Iterable[str], *, otherwise: Iterable[str] | None = None) -> str:
    """Say which of ``names`` was probably meant; if none is close, list them all, or those of ``otherwise``."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names if otherwise is None else otherwise)}"
