"""``train.log``: everything that a run shows and logs, as plain text; the terminal shows what it showed without it."""

import errno
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm

from gptladder.runs.run import Run
from gptladder.runs.train_log import log_output
from gptladder.system.errors import UserError
from helpers.configs import ROOT, command
from helpers.processes import warm_command

SHORT = ("trainer.max_steps=4", "trainer.val_check_interval=2", "callbacks.samples.n_tokens=3")


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    run.started = True
    return run


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Stdout and stderr are a terminal in the body."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:  # not a fixture: pytest captures anew in each phase of a test
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        yield terminal


def lines(run: Run) -> list[str]:
    log = run.path / "train.log"
    return log.read_text().splitlines() if log.exists() else []


PROGRAM = """
import logging, sys, warnings
from gptladder.runs.run import Run
from gptladder.runs.train_log import log_output
run = Run(".")
run.started = True
with log_output(run):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    warnings.warn("a warning")
    logging.getLogger("some.library").info("an info")
    logging.getLogger("some.library").warning("a logged warning")
print(logging.getLogger().handlers, logging.getLogger().level)
"""


def test_the_log_has_what_is_printed_and_warned_and_logged(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    log = (tmp_path / "train.log").read_text()
    for part in ("to stdout", "to stderr", "UserWarning: a warning", "a logged warning", "an info"):
        assert log.count(part) == 1
    assert "[some.library][INFO] - an info" in log
    assert done.stdout == "to stdout\n[] 30\n"
    assert [line for line in done.stderr.splitlines() if "Warning" not in line] == ["to stderr", "a logged warning"]


def test_the_log_has_no_colors_and_no_progress_bars(run: Run) -> None:
    with terminal() as shown, log_output(run):
        console = Console()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("training", total=10)
            for step in range(10):
                progress.update(task, advance=1)
                progress.refresh()
                if step in (3, 9):
                    console.print(f"[bold red]step {step}[/]")
        for _ in tqdm(range(3), desc="tqdm", file=sys.stderr, mininterval=0):
            pass
        print("last")
    assert "\x1b[" in shown.getvalue()
    assert lines(run)[:2] == ["step 3", "step 9"]
    (bar, last) = lines(run)[2:]  # the terminal keeps the last state of this bar
    assert bar.startswith("tqdm: 100%")
    assert last == "last"


def test_a_handler_that_writes_to_the_terminal_is_copied_and_restored(run: Run) -> None:
    logger = logging.getLogger("with.handler")
    logger.propagate = False
    with terminal() as shown:
        handler = logging.StreamHandler(shown)
        logger.addHandler(handler)
        with log_output(run):
            logger.warning("from a handler")
        logger.removeHandler(handler)
    assert handler.stream is shown
    assert lines(run) == ["from a handler"]
    assert shown.getvalue() == "from a handler\n"


def test_a_run_that_never_starts_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(UserError), log_output(Run(tmp_path)):
        raise UserError(print("before the start"))
    assert list(tmp_path.iterdir()) == []


def test_lines_from_before_the_start_are_in_the_log(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with log_output(run):
        print("before")
        run.started = True
    assert lines(run) == ["before"]


def test_an_exception_is_in_the_log(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), log_output(run):
        1 / 0  # noqa: B018
    assert lines(run)[0].startswith("Traceback")
    assert lines(run)[-1] == "ZeroDivisionError: division by zero"


def test_a_log_that_cannot_be_written_does_not_stop_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with log_output(run), monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        print("lost")
    assert lines(run) == []


def test_a_single_run_logs_what_its_terminal_showed_and_a_resumed_run_appends(tmp_path: Path) -> None:
    done = warm_command("train.py", *SHORT, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    shown = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines(Run(tmp_path / "run")) == shown
    result = tmp_path / "run" / "result.json"
    result.write_text(result.read_text().replace('"status": "finished"', '"status": "interrupted"'))
    resumed = warm_command("train.py", "resume=run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert lines(Run(tmp_path / "run")) == [*shown, *(line.rstrip() for line in resumed.stdout.splitlines())]


def test_on_a_terminal_the_log_has_the_same_lines_without_the_bar(tmp_path: Path) -> None:
    arguments = [sys.executable, str(ROOT / "train.py"), *SHORT, f"hydra.run.dir='{tmp_path}/run'"]
    terminal, stdout = pty.openpty()
    process = subprocess.Popen(arguments, stdout=stdout, stderr=stdout)
    os.close(stdout)
    screen = b""
    with suppress(OSError):  # raised at the end of a terminal
        while data := os.read(terminal, 1024):
            screen += data
    os.close(terminal)
    assert process.wait() == 0, screen
    assert b"steps" in screen
    text = (tmp_path / "run" / "train.log").read_text()
    assert "\x1b" not in text
    assert "━" not in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("step ")] == ["0", "2", "4"]


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_every_job_of_a_sweep_has_a_log_of_its_own(launcher: str, tmp_path: Path) -> None:
    done = command("train.py", "-m", "seed=1,2", *SHORT, f"launcher={launcher}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HYDRA" not in done.stdout + done.stderr
    logs = {path.parent.name: path.read_text() for path in tmp_path.glob("outputs/*/*/train.log")}
    assert len(logs) == 2
    for name, text in logs.items():
        seed = next(word for word in name.split("-") if word.startswith("seed")).removeprefix("seed")
        assert f"seed {seed} " in text
        assert text.count("seed ") == 1
