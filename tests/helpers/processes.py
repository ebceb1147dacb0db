"""Commands in processes forked from a server that has imported torch.

A new interpreter needs nine seconds of a core before it trains, a forked process a tenth of a second; signals, exit
codes, limits and kills work the same.
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
    "gptladder.training.fit",
    "gptladder.cli.summary",
    "gptladder.training.loggers",
]

forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(LOADED)


class Warm:
    """A running command: ``train.py`` or a script, with its own directory, environment and limits.

    Args:
        words: the script and its arguments.
        cwd: its working directory.
        file_size: the largest file that it may write, to imitate a full disk.
        environment: added to the environment of the tests.
    """

    def __init__(self, *words: str, cwd: Path, file_size: int | None = None, **environment: str) -> None:
        Warm.number = number = getattr(Warm, "number", 0) + 1
        output = cwd.parent / f"{cwd.name}-output-{number}"
        self.out, self.err = output.with_suffix(".out"), output.with_suffix(".err")
        self.process = self._start(words, cwd, file_size, environment)

    def _start(self, words: tuple[str, ...], cwd: Path, file_size: int | None, environment: dict[str, str]) -> Any:
        arguments = (words, str(cwd), file_size, environment, str(self.out), str(self.err))
        process = forkserver.Process(target=_run, args=arguments)
        process.start()
        return process

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_until(self, condition: Callable[[], Any], seconds: float = 90) -> bool:
        """Wait for a condition; returns whether it became true while the command ran."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.is_alive():
            if condition():
                return True
            time.sleep(0.005)
        return bool(condition())

    def end(self, seconds: float = 120) -> int:
        """Wait for its end; returns the exit code, negative for a signal that killed it."""
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


def warm_command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a forked process; like ``helpers.configs.command``, and several seconds faster."""
    process = Warm(*words, cwd=cwd, **environment)
    return subprocess.CompletedProcess(words, process.end(300), process.stdout, process.stderr)


class Cold(Warm):
    """The same in a new interpreter, for commands that start processes themselves."""

    def _start(self, words: tuple[str, ...], cwd: Path, file_size: int | None, environment: dict[str, str]) -> Any:
        with self.out.open("w") as out, self.err.open("w") as err:
            command = [sys.executable, str(ROOT / words[0]), *words[1:]]
            return Interpreter(command, cwd=cwd, env={**os.environ, **environment}, stdout=out, stderr=err)


class Interpreter(subprocess.Popen[bytes]):
    """A process with the interface of ``multiprocessing``."""

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, seconds: float | None = None) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(seconds)

    @property
    def exitcode(self) -> int | None:
        return self.poll()


def content(number: int) -> dict[str, Any]:
    """A checkpoint whose parts all contain its number."""
    return {
        "gptladder": {"net": {}, "number": number},
        "state_dict": {"weights": torch.full((300_000,), float(number))},
    }


def save_without_end(path: str, temporary: str) -> None:
    """Save one checkpoint after the other."""
    os.environ["TMPDIR"] = temporary
    saver = AtomicCheckpointIO()
    for number in range(1, 1_000_000):
        saver.save_checkpoint(content(number), path)


def _run(words: tuple[str, ...], cwd: str, file_size: int | None, environment: dict[str, str], *outputs: str) -> None:
    """Run the command in the forked process."""
    for path, stream in zip(outputs, (sys.stdout, sys.stderr), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    os.environ.update(environment)
    os.chdir(cwd)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    script, *arguments = words
    sys.argv = [str(ROOT / script), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
