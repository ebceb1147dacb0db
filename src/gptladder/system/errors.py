"""Errors that a user can cause, each with a message of one sentence."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

# What a full disk, or a quota, raises.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What a directory that is read-only, or no directory, raises.
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)

# How alike a suggestion must be, from 0 to 1.
MIN_CLOSENESS = 0.6


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


def os_error_message(error: OSError) -> str | None:
    """One sentence with the remedy for a full disk or a path that cannot be used; ``None`` for any other error."""
    if error.errno in DISK_FULL:
        return f"no space left on device ({first_line(error)}): free some space and try again"
    if error.filename and error.errno in (*NOT_WRITABLE, errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
        return f"{error.filename}: {error.strerror}: check the path and its permissions, or choose another path"
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return " ".join(str(error).strip().partition("\n")[0].split()) or type(error).__name__


def printable(text: str) -> str:
    """A text without characters that a terminal would obey; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def suggest(name: str, names: Iterable[str], *, otherwise: Iterable[str] | None = None) -> str:
    """``did you mean X?`` with the nearest of ``names``; if none is close, a list of them, or of ``otherwise``."""
    names = sorted(names)
    nearest = max(names, key=lambda known: _closeness(name, known), default=name)
    if _closeness(name, nearest) > MIN_CLOSENESS:
        return f"did you mean {nearest}?"
    return f"there are {', '.join(names if otherwise is None else sorted(otherwise))}"


def _closeness(name: str, known: str) -> float:
    """How alike two dotted names are, from 0 to 1; of the last parts alone, a little less."""
    last, known_last = (text.rpartition(".")[2] for text in (name, known))
    whole, parts = difflib.SequenceMatcher(None, name, known).ratio(), difflib.SequenceMatcher(None, last, known_last)
    return max(whole, 0.95 * parts.ratio())
