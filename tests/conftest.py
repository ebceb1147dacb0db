"""Fixtures that all tests share, and the last line of the terminal."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch loads: tests share the cores, so no thread may spin

from helpers.configs import command


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Put on record what a test did to the program: ``tried(kills=3)``; the terminal's last line adds them all up."""

    def record(**counts: int) -> None:
        for what, number in counts.items():
            record_property(f"tried {what}", number)

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried on the program, and how often it lost or changed something."""
    counts: Counter[str] = Counter()
    for report in [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]:
        for name, number in report.user_properties:
            if name.startswith("tried ") and report.when == "call":
                counts[name.removeprefix("tried ").replace("_", " ")] += int(str(number))
    if counts:
        lost = [report for kind in ("failed", "error") for report in terminalreporter.getreports(kind)]
        lost = [report for report in lost if "tests/robustness/" in report.nodeid]
        said = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        terminalreporter.write_line(f"tried: {said}; losses of data found: {len(lost)}")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run of ``multihead``, made by the command itself."""
    directory = tmp_path_factory.mktemp("finished")
    done = command("train.py", "model=multihead", "trainer.max_steps=20", "hydra.run.dir=run", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "run"
