"""Atomic writes: after a crash a file has its old content or the new one, never a part."""

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
    """Write a file next to ``path``, flush it to disk, and rename it to ``path``.

    The staging file lies in the same directory because a rename is only atomic within one file system.
    A process killed in between leaves the old file and a ``.part`` file, which the next run removes.
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


def write_files(files: dict[str, bytes], directory: Path) -> None:
    """Write files, given by name, into the directory that the user passed as ``--out``.

    Raises:
        UserError: one of them cannot be written.
    """
    for name, content in files.items():
        try:
            with atomic_write(directory / name) as file:
                file.write(content)
        except OSError as error:
            raise UserError(
                f"{directory / name} cannot be written ({error.strerror}): name another directory with --out"
            ) from None


def remove_stale_files(directory: Path) -> None:
    """Remove the staging files of killed processes; those of running processes stay."""
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
