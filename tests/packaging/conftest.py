"""The wheel, built from a copy of the checkout through an sdist, and installed without anything else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.configs import ROOT

SOURCES = ("src", "conf", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, directory / "source" / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, target)
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "source"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (directory / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the installed wheel and nothing else."""
    site = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    done = subprocess.run([*words, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command outside of the checkout, where only the wheel provides the package."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        program = [str(site / "bin" / words[0]), *words[1:]] if words[0] == "gpt-ladder" else [sys.executable, *words]
        environment = {**os.environ, "PYTHONPATH": str(site), **environment}
        return subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run
