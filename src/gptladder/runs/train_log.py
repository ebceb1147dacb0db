"""``train.log``: what a run showed on the terminal, as plain text, and what it logged."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import RLock
from typing import Any, TextIO, cast

from hydra.core.hydra_config import HydraConfig

from gptladder.runs.run import Run, is_first_process
from gptladder.system.errors import find_user_error

FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"

# The environment variable that says that the process of a sweep reports on this job: lines of several jobs that write
# to one terminal would not say whose they are, so what this one prints is in its log alone.
REPORTED = "GPTLADDER_REPORTED"
SHARED_TERMINAL = ("joblib", "ray")  # launchers whose jobs print to the terminal of the sweep

# Line ends, control sequences (colours, cursor), links, and text.
_TOKENS = re.compile(r"\n|\r|\x1b\[([0-9;?]*)([A-Za-z])|\x1b\].*?(?:\x07|\x1b\\)|[^\n\r\x1b]+|\x1b")


@contextmanager
def log_output(run: Run) -> Iterator[None]:
    """Copy what the body prints, warns and logs to ``train.log`` of a run; a resumed run appends.

    In a job of a sweep on which another process reports, the terminal shows none of it.

    Args:
        run: the log stays in memory until it has started, so that a run that is refused leaves its directory as it was.
    """
    if not is_first_process():
        yield
        return
    log = _TrainLog(run)
    try:
        with _copy_streams(log, hidden=_is_reported()), _copy_records(log):
            yield
    except Exception as error:  # the command prints it later
        user_error = find_user_error(error)
        log.append(traceback.format_exc() if user_error is None else f"error: {user_error}")
        raise
    finally:
        log.save()


class _TrainLog:
    """The lines of a log, in memory until the run has started, then in its file.

    A log that cannot be written, on a full disk for example, never stops a run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._path = run.path / "train.log"
        self._unsaved: list[str] = []
        self._last: deque[str] = deque(maxlen=100)  # what a progress bar may still erase
        self._lock = RLock()

    def append(self, line: str) -> None:
        """Append a line, given without its line end."""
        line = line.rstrip()
        with self._lock:
            self._last.append(line)
            self._unsaved.append(f"{line}\n")
            self.save()

    def save(self) -> None:
        """Write the lines so far if the run has started."""
        with self._lock:
            if self._run.started and self._unsaved:
                lines, self._unsaved = self._unsaved, []
                with suppress(OSError), self._path.open("a", encoding="utf-8", errors="replace", newline="") as file:
                    file.writelines(lines)

    def remove_last(self) -> str:
        """Take back the last line, because the cursor moved up to it."""
        with self._lock:
            if not self._last:
                return ""
            line = self._last.pop()
            if self._unsaved:
                self._unsaved.pop()
            else:
                with suppress(OSError):
                    os.truncate(self._path, self._path.stat().st_size - len(f"{line}\n".encode(errors="replace")))
            return line


def _is_reported() -> bool:
    if REPORTED not in os.environ or not HydraConfig.initialized():
        return False
    return HydraConfig.get().runtime.choices.get("hydra/launcher") in SHARED_TERMINAL


@cache
def _nowhere() -> TextIO:
    return open(os.devnull, "w")  # noqa: PTH123 - as long as the process: a handler may keep it


@contextmanager
def _copy_streams(log: _TrainLog, *, hidden: bool) -> Iterator[None]:
    """Copy stdout and stderr, also of log handlers that write to them; hidden, they are only in the log."""
    before = sys.stdout, sys.stderr
    out, err = copies = tuple(_Copy(log, _nowhere() if hidden else stream) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        with _redirect_handlers({**dict(zip(before, copies, strict=True)), **({_nowhere(): err} if hidden else {})}):
            yield
    finally:
        sys.stdout, sys.stderr = before
        for copy in copies:
            copy.end()


@contextmanager
def _redirect_handlers(copies: dict[TextIO, _Copy]) -> Iterator[None]:
    redirected = {}
    for logger in (logging.getLogger(), *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler):
                terminal = getattr(handler.stream, "terminal", handler.stream)  # the copy of an earlier job
                if terminal in copies:
                    redirected[handler] = terminal
                    handler.setStream(copies[terminal])
    try:
        yield
    finally:
        for handler, terminal in redirected.items():
            handler.setStream(terminal)


@contextmanager
def _copy_records(log: _TrainLog) -> Iterator[None]:
    """Copy the log records from level INFO on that the terminal does not show."""
    root = logging.getLogger()
    level, levels = root.level, {handler: handler.level for handler in root.handlers}
    handler = logging.StreamHandler(cast(TextIO, _Copy(log, None)))
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(lambda record: record.levelno < level)
    # Python uses its handler of last resort only while there is no other.
    added = [handler] if root.handlers or logging.lastResort is None else [handler, logging.lastResort]
    for shown in levels:
        shown.setLevel(max(shown.level, level))
    for each in added:
        root.addHandler(each)
    root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.setLevel(level)
        for each in added:
            root.removeHandler(each)
        for shown, old_level in levels.items():
            shown.setLevel(old_level)


class _Copy:
    """A stream whose text goes to the terminal as it is, and to a log as the terminal shows it."""

    def __init__(self, log: _TrainLog, terminal: TextIO | None) -> None:
        self._log: _TrainLog | None = log
        self.terminal = terminal
        self._line, self._column = "", 0

    def write(self, text: str) -> int:
        if self.terminal is not None:
            self.terminal.write(text)
        if self._log is not None:
            self._copy(text, self._log)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.terminal is not None:
            self.terminal.flush()

    def end(self) -> None:
        """Stop copying; who keeps this stream still writes to the terminal."""
        if self._line and self._log is not None:
            self._log.append(self._line)
        self._log = None

    def _copy(self, text: str, log: _TrainLog) -> None:
        """Follow the cursor as far as progress bars move it: to the start of the line, and up."""
        for token in _TOKENS.finditer(text):
            match token[0][0], token[2]:
                case "\n", _:
                    log.append(self._line)
                    self._line, self._column = "", 0
                case "\r", _:
                    self._column = 0
                case _, "K":  # erase in line
                    self._line = "" if token[1] == "2" else self._line[: self._column]
                case _, "A":  # cursor up
                    for _ in range(int(token[1] or 1)):
                        self._line = log.remove_last()
                case "\x1b", _:
                    pass
                case _:
                    end = self._column + len(token[0])
                    self._line = self._line[: self._column].ljust(self._column) + token[0] + self._line[end:]
                    self._column = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
