"""What the tests share: configs found by globbing ``conf/``, runs in this process, and runs as a user starts them."""

import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gptladder.training.build import build_data, build_learner, build_trainer, climb
from gptladder.cli.main import script
from gptladder.runs.naming import quoted
from gptladder.runs.run import Run

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
RUNGS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    """The config of a job, as ``train.py`` would compose it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def trained(run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Train in this process as ``train.py`` does; the result as it stands on disk."""
    cfg = composed(*overrides, f"run_dir={quoted(str(run_dir))}")
    run = Run(run_dir)
    with run.recording():
        torch.manual_seed(cfg.seed)
        data = build_data(cfg)
        learner = build_learner(cfg, data)
        climb(build_trainer(cfg, data, learner, run), learner, data, run)
    return Run.read(run_dir)


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository as a user does, from another directory."""
    script, *arguments = words
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


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
        lost = [report for report in lost if "test_trust_" in report.nodeid]
        said = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        terminalreporter.write_line(f"tried: {said}; losses of data found: {len(lost)}")


def ran(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script in this process, where torch is loaded already."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    script(runpy.run_path(str(ROOT / "scripts" / name))["main"])


def assert_refused(
    name: str, words: str, *, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script says no in one line that names what is wrong, prints nothing else, and ends with 2."""
    with pytest.raises(SystemExit) as end:
        ran(name, *words.split(), monkeypatch=monkeypatch)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert named in line


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run of ``multihead``, made by the command itself."""
    directory = tmp_path_factory.mktemp("finished")
    done = command("train.py", "model=multihead", "trainer.max_steps=20", "hydra.run.dir=run", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory / "run"
