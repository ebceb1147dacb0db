"""A run: one training, one directory, and a ``result.json`` that always has its current status."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gptladder.runs.environment import environment, peak_memory_mb
from gptladder.system.errors import RunConflictError, RunLockedError, UserError, find_user_error
from gptladder.system.files import atomic_write, remove_stale_files
from gptladder.system.records import read_json

# Seconds to wait for the lock of a directory: `is_locked` of another process holds it for a moment.
LOCK_TIMEOUT = 1.0

# The types of what a run reads of its own record.
TYPES: dict[str, tuple[type, ...]] = {
    "status": (str, type(None)),
    "config_hash": (str, type(None)),
    "wall_seconds": (int, float, type(None)),
    "curve": (list, type(None)),
    "tags": (list, type(None)),
    "versions": (dict, type(None)),
    "step": (int, type(None)),
}

# The statuses of runs that have a result; a stopped one ended where its config says, at a time limit for example.
ENDED = ("finished", "stopped")

# How the reason begins that is recorded for a run that early stopping ended.
EARLY_STOPPING = "early stopping"


def checkpoint_path(run_dir: str | Path) -> Path:
    """The checkpoint that a run resumes from and that other commands load, which may not exist."""
    return Path(run_dir) / "checkpoints" / "last.ckpt"


def error_summary(result: dict[str, Any]) -> str:
    """The last line of a recorded error, without the traceback."""
    lines = str(result.get("error") or "").strip().splitlines()
    return lines[-1] if lines else "no reason recorded"


class Run:
    """A run directory and the result in it.

    Only a new run, or the one that is resumed, writes to a directory: other runs are never overwritten.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.result: dict[str, Any] = self.read(self.path)
        self.started = False

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """The content of ``result.json``; empty where there is none yet."""
        try:
            result = read_json(path / "result.json")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{path}/result.json is not a run result ({error}): move the directory away") from None
        if not isinstance(result, dict):
            raise UserError(f"{path}/result.json is not a run result: move the directory away")
        for key, types in TYPES.items():
            if not isinstance(result.get(key), types):
                raise UserError(
                    f"{path}/result.json is damaged ({key} is {result[key]!r:.40}): move the directory away"
                )
        return result

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if there is one."""
        last = checkpoint_path(self.path)
        return last if last.is_file() else None

    @property
    def finished(self) -> bool:
        """Whether the last step was reached and evaluated."""
        return self.result.get("status") == "finished"

    @property
    def complete(self) -> bool:
        """Whether the config asks for no further step: it finished, or its early stopping ended it."""
        stopped_early = str(self.result.get("stopped_by")).startswith(EARLY_STOPPING)
        return self.finished or (self.result.get("status") == "stopped" and stopped_early)

    @property
    def status(self) -> str:
        """The recorded status, or ``interrupted`` if the process was killed before it could record that."""
        recorded = str(self.result.get("status"))
        return "interrupted" if recorded == "running" and not self.is_locked else recorded

    def write(self, **values: Any) -> None:
        """Update the result, and write it atomically; of several processes only the first writes."""
        self.result.update(values)
        if not is_first_process():
            return
        with atomic_write(self.path / "result.json") as file:
            file.write((json.dumps(self.result, indent=1) + "\n").encode())

    def start(self, *, replaces: str | None = None, **identity: Any) -> None:
        """Record that the run trains now.

        Args:
            replaces: the recorded hash, if the run continues with another config.
            identity: what the record says of the run.

        Raises:
            RunConflictError: the directory holds another run.
        """
        recorded, current = self.result.get("config_hash"), identity["config_hash"]
        old = str(self.result.get("versions", {}).get("gptladder")).startswith("0.1.")  # which computed other hashes
        if recorded not in (None, current, replaces) and not old:
            raise RunConflictError(
                f"{self.path} holds another run (config {recorded}, not {current}): choose another directory"
            )
        if is_first_process():  # the files of another process of this run are not stale
            remove_stale_files(self.path)
            remove_stale_files(self.checkpoints)
        self.started = True
        self.write(status="running", error=None, stopped_by=None, **identity, **environment())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Lock the directory, and record how the body ends.

        Raises:
            RunLockedError: another process is writing there.
        """
        with self.locked():
            self.result = self.read(self.path)
            self._started_at = time.perf_counter()
            self._seconds_before = self.result.get("wall_seconds", 0.0)
            with self._record_failure():
                yield

    @property
    def is_locked(self) -> bool:
        """Whether a process is writing to the directory now."""
        return is_locked(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing to the directory.

        Raises:
            RunLockedError: another process is writing there.
        """
        if not is_first_process():
            yield
            return
        try:
            lock = self._lock().acquire(timeout=LOCK_TIMEOUT)
        except Timeout:
            raise RunLockedError(
                f"{self.path} is being written by another process: wait, or choose another directory"
            ) from None
        with lock:
            yield

    def _lock(self) -> FileLock:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", timeout=0)

    @contextmanager
    def _record_failure(self) -> Iterator[None]:
        # A job of a sweep has no other place to record its error.
        is_resumed = "config_hash" in self.result and "job" not in self.result
        try:
            yield
        except RunConflictError:
            raise
        except BaseException as error:
            if is_resumed and find_user_error(error) is not None:  # the record of the run stays as it was
                raise
            # On a full disk the old record stays, and the error itself is what matters.
            with suppress(OSError):
                self._end(*_failure_status(error))
            raise

    def finish(self, *, stopped_by: str | None, **outcome: Any) -> None:
        """Record the outcome of a run that reached its last step, or what stopped it before."""
        self._end("finished" if stopped_by is None else "stopped", None, stopped_by=stopped_by, **outcome)

    def _end(self, status: str, error: str | None, **outcome: Any) -> None:
        wall_seconds = self._seconds_before + time.perf_counter() - self._started_at
        costs = {"wall_seconds": round(wall_seconds, 2), "peak_memory_mb": peak_memory_mb()}
        self.write(status=status, error=error, **outcome, **costs)


def _failure_status(error: BaseException) -> tuple[str, str | None]:
    """Status and error message of a run that did not reach its last step."""
    if not isinstance(error, Exception):  # SystemExit and KeyboardInterrupt, which signals raise
        return "interrupted", None
    user_error = find_user_error(error)
    return "failed", traceback.format_exc() if user_error is None else str(user_error)


def is_locked(path: Path) -> bool:
    """Whether a process is writing to a run directory now."""
    lock = path / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a read-only copy
        return False


def is_first_process() -> bool:
    """Whether this is the first of the processes that Lightning started."""
    return not (int(os.environ.get("LOCAL_RANK", 0)) or int(os.environ.get("NODE_RANK", 0)))
