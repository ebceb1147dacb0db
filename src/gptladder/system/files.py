"""Files that are either the old ones or the new ones, never something between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from gptladder.system.errors import UserError

STAGING_SUFFIX = ".part"


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside ``path``, force it to disk, and put it in ``path``'s place in one move.

    The staging file lies in the same directory because a move is only atomic within one file system.
    A process killed in between leaves the old file and a ``.part`` that the next run sweeps away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}{STAGING_SUFFIX}")
    try:
        with staged.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_files(made: dict[str, bytes], directory: Path) -> None:
    """Write some files, by name, into the directory that a user gave as ``--out``.

    Raises:
        UserError: one of them cannot be written.
    """
    for name, content in made.items():
        try:
            with atomic_write(directory / name) as file:
                file.write(content)
        except OSError as error:
            raise UserError(
                f"{directory / name} cannot be written ({error.strerror}): name another directory with --out"
            ) from None


def remove_stale_files(directory: Path) -> None:
    """Remove what killed processes left half-written; what a living one writes stays."""
    for path in directory.glob(f".*{STAGING_SUFFIX}"):
        writer = path.name.removesuffix(STAGING_SUFFIX).rpartition(".")[2]
        if not (writer.isdecimal() and int(writer) != os.getpid() and psutil.pid_exists(int(writer))):
            path.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
