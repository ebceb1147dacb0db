"""The commands in processes of their own that need not load torch first: forked from a server that has loaded it.

A process that starts from nothing takes nine seconds of a core before it trains, one of these a tenth of a second;
signals, exit codes, limits and kills are as real in it.
"""

import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gptladder.training.checkpoint_io import AtomicCheckpointIO

ROOT = Path(__file__).parents[2]
LOADED = [
    "torch",
    "lightning.pytorch",
    "tensorboard",
    "hydra",
    "gptladder.training.build",
    "gptladder.cli.summary",
    "gptladder.training.loggers",
]

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(LOADED)


class Warm:
    """A command that runs: ``train.py`` or a script, with a directory, an environment and limits of its own.

    Args:
        words: the script and its arguments.
        cwd: where it runs.
        file_size: the longest file that it may write, as a disk that is nearly full would have it.
        environment: added to that of the tests.
    """

    def __init__(self, *words: str, cwd: Path, file_size: int | None = None, **environment: str) -> None:
        Warm.number = number = getattr(Warm, "number", 0) + 1
        said = cwd.parent / f"{cwd.name}-said-{number}"
        self.out, self.err = said.with_suffix(".out"), said.with_suffix(".err")
        self.process = self._started(words, cwd, file_size, environment)

    def _started(self, words: tuple[str, ...], cwd: Path, file_size: int | None, environment: dict[str, str]) -> Any:
        arguments = (words, str(cwd), file_size, environment, str(self.out), str(self.err))
        process = forkserver.Process(target=_run, args=arguments)
        process.start()
        return process

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_until(self, condition: Callable[[], Any], seconds: float = 90) -> bool:
        """Wait for a condition; whether it came true while the command ran."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.is_alive():
            if condition():
                return True
            time.sleep(0.005)
        return bool(condition())

    def end(self, seconds: float = 120) -> int:
        """Wait for its end; the exit code, negative for a signal that killed it."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"still running after {seconds} s:\n{self.stderr}")
        assert self.process.exitcode is not None
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    @property
    def stderr(self) -> str:
        return self.err.read_text() if self.err.exists() else ""


class Cold(Warm):
    """The same in an interpreter that starts from nothing, for commands that start processes of their own."""

    def _started(self, words: tuple[str, ...], cwd: Path, file_size: int | None, environment: dict[str, str]) -> Any:
        with self.out.open("w") as out, self.err.open("w") as err:
            command = [sys.executable, str(ROOT / words[0]), *words[1:]]
            return Interpreter(command, cwd=cwd, env={**os.environ, **environment}, stdout=out, stderr=err)


class Interpreter(subprocess.Popen[bytes]):
    """A process with the words of ``multiprocessing``."""

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, seconds: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(seconds)

    @property
    def exitcode(self) -> int | None:
        return self.poll()


def content(number: int) -> dict[str, Any]:
    """A checkpoint of which every part says which one it is."""
    return {"gptladder": {"number": number}, "state_dict": {"weights": torch.full((300_000,), float(number))}}


def save_without_end(path: str, temporary: str) -> None:
    """Save one checkpoint after the other."""
    os.environ["TMPDIR"] = temporary
    saver = AtomicCheckpointIO()
    for number in range(1, 1_000_000):
        saver.save_checkpoint(content(number), path)


def _run(words: tuple[str, ...], cwd: str, file_size: int | None, environment: dict[str, str], *said: str) -> None:
    """What the forked process does: become the command."""
    for path, stream in zip(said, (sys.stdout, sys.stderr), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    os.environ.update(environment)
    os.chdir(cwd)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    script, *arguments = words
    sys.argv = [str(ROOT / script), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
