"""``train.log``: what a run printed, in its directory."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gptladder.runs.run import Run, is_first_process

# Colours and cursor movements; and the lines of a progress bar.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r"[━╸╺]")

LOGGERS = ("", "lightning.pytorch", "lightning.fabric")  # Lightning's own do not reach the root logger


@contextmanager
def log_output(run: Run) -> Iterator[None]:
    """Copy stdout, stderr, warnings and logging to ``train.log`` of a run, without colours and progress bars.

    The file is opened when the run has started, so that a run that is refused leaves no trace. A resumed run appends.
    """
    if not is_first_process():
        yield
        return
    log = _TrainLog(run)
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.WARNING)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Tee(stream, log) for stream in streams)  # type: ignore[assignment]
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    except Exception:
        log.write(traceback.format_exc())
        raise
    finally:
        sys.stdout, sys.stderr = streams
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        log.close()


class _TrainLog:
    """A text stream that keeps what it gets until the run has started."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._pending = ""

    def write(self, text: str) -> None:
        lines = _CONTROL.sub("", (self._pending + text).replace("\r", "\n")).split("\n")
        self._pending = lines.pop()
        kept = [line.rstrip() for line in lines if not _BAR.search(line)]
        if not self._run.started:
            self._pending = "\n".join([*kept, self._pending])
        elif kept:
            with (self._run.path / "train.log").open("a", encoding="utf-8") as file:
                file.write("\n".join(kept) + "\n")

    def flush(self) -> None:
        """Nothing is buffered but an incomplete line."""

    def close(self) -> None:
        """Write an incomplete last line."""
        if self._pending:
            self.write("\n")


class _Tee:
    """A stream whose output is copied to a log; everything else is the stream's own."""

    def __init__(self, stream: TextIO, log: _TrainLog) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        n = self._stream.write(text)
        try:
            self._log.write(text)
        except OSError as error:  # a full disk must not end the run here; its checkpoints will say so
            os.write(2, f"train.log: {error.strerror}\n".encode())
        return n

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
