"""A run: one training, one directory, one ``result.json`` that always tells how it stands."""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gptladder import __version__
from gptladder.system.errors import RunConflictError, RunLockedError, UserError, find_user_error
from gptladder.system.files import atomic_write, remove_stale_files

# Seconds that an attempt to enter waits, because looking whether a directory is in use takes its lock for a moment.
LOOKING = 1.0


class Run:
    """A run directory and the result in it.

    A directory is entered only by a run that is new or goes on: what another run wrote is never overwritten.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.result: dict[str, Any] = self.read(self.path)
        self.started = False

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """What ``result.json`` says; empty where there is none yet."""
        try:
            result = json.loads((path / "result.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            result = None
        if not isinstance(result, dict):
            raise UserError(f"{path}/result.json is not readable as the JSON of a run: move the directory away")
        return result

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """Where an unfinished run goes on, if it got that far."""
        last = self.checkpoints / "last.ckpt"
        return last if last.is_file() else None

    @property
    def finished(self) -> bool:
        return self.result.get("status") == "finished"

    @property
    def status(self) -> str:
        """How the run stands: what is recorded, unless whoever ran it was killed before recording its end."""
        recorded = str(self.result.get("status"))
        return "interrupted" if recorded == "running" and not self.is_locked else recorded

    def write(self, **values: Any) -> None:
        """Change the result, on disk at once and whole; of several processes only the first writes."""
        self.result.update(values)
        if not is_first_process():
            return
        with atomic_write(self.path / "result.json") as file:
            file.write((json.dumps(self.result, indent=1) + "\n").encode())

    def start(self, **identity: Any) -> None:
        """Enter the directory.

        Raises:
            RunConflictError: it holds a run of another recipe.
        """
        held, wanted = self.result.get("config_hash"), identity["config_hash"]
        old = str(self.result.get("versions", {}).get("gptladder")).startswith("0.1.")  # which computed other hashes
        if held not in (None, wanted) and not old:
            raise RunConflictError(
                f"{self.path} holds another run (config {held}, not {wanted}): choose another directory"
            )
        if is_first_process():  # what another process of this run is writing is not stale
            remove_stale_files(self.path)
            remove_stale_files(self.checkpoints)
        self.started = True
        self.write(status="running", error=None, **identity, **_circumstances())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hold the directory, and put whatever ends the body on record before it goes on to whoever handles it.

        Raises:
            RunLockedError: another process is writing there.
        """
        with self.held():
            self.result = self.read(self.path)
            self._entered = time.perf_counter()
            self._seconds_before = self.result.get("wall_seconds", 0.0)
            with self._recording():
                yield

    @property
    def is_locked(self) -> bool:
        """Whether a process is writing in the directory now."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with self._lock():
                return False
        except Timeout:
            return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from writing in the directory.

        Raises:
            RunLockedError: another process is writing there.
        """
        if not is_first_process():
            yield
            return
        try:
            lock = self._lock().acquire(timeout=LOOKING)
        except Timeout:
            raise RunLockedError(f"{self.path} is being written by another process: wait, or choose another") from None
        with lock:
            yield

    def _lock(self) -> FileLock:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", timeout=0)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        # A job of a sweep has no other place to say what is wrong with it.
        goes_on = "config_hash" in self.result and "job" not in self.result
        try:
            yield
        except RunConflictError:
            raise
        except BaseException as error:
            if goes_on and find_user_error(error) is not None:  # the run that began without this mistake is as it was
                raise
            # Where there is no room left to say so, the error itself is what matters; the old record stays.
            with suppress(OSError):
                self._end(*_ending(error))
            raise

    def finish(self, **outcome: Any) -> None:
        """Close the record of a run that reached its last step."""
        self._end("finished", None, **outcome)

    def _end(self, status: str, error: str | None, **outcome: Any) -> None:
        wall_seconds = self._seconds_before + time.perf_counter() - self._entered
        costs = {"wall_seconds": round(wall_seconds, 2), "peak_memory_mb": _peak_mb()}
        self.write(status=status, error=error, **outcome, **costs)


def _ending(error: BaseException) -> tuple[str, str | None]:
    """Status and error of a run that did not reach its last step."""
    if not isinstance(error, Exception):  # SystemExit and KeyboardInterrupt, which signals end in
        return "interrupted", None
    mistake = find_user_error(error)
    return "failed", traceback.format_exc() if mistake is None else str(mistake)


def is_first_process() -> bool:
    """Whether this is the first of the processes that Lightning started."""
    return not (int(os.environ.get("LOCAL_RANK", 0)) or int(os.environ.get("NODE_RANK", 0)))


def _peak_mb() -> int:
    """The most memory that this process ever held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage() would count what the parent process held before it became this program
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024)


def _circumstances() -> dict[str, Any]:
    import lightning
    import torch

    return {
        "threads": torch.get_num_threads(),
        "versions": {
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
            "gptladder": __version__,
        },
        "git": _git(),
        "command": _command(),
    }


def _command() -> str:
    """What the user typed, without what was added to it since."""
    typed = sys.orig_argv[sys.orig_argv.index(sys.argv[0]) + 1 :] if sys.argv[0] in sys.orig_argv else sys.argv[1:]
    return shlex.join(["python", Path(sys.argv[0]).name, *typed])


def _git() -> dict[str, Any] | None:
    """The commit of the code, and whether it was changed since; ``None`` outside a checkout."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
