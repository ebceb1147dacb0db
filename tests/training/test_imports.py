"""A run imports no package that it does not need: importing takes half of a short run."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.configs import ROOT

OPTIONS = ("trainer.max_steps=1", "data.estimate_batches=1", "callbacks.samples.n_tokens=1", "hydra.run.dir=run")


def imported(directory: Path, *overrides: str) -> set[str]:
    """The packages that a run has imported when it ends."""
    code = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__'); print(*sys.modules)"
    script = ROOT / "train.py"
    program = f"import sys; sys.argv = [{str(script)!r}, *sys.argv[1:]]; {code}"
    done = subprocess.run(
        [sys.executable, "-c", program, *OPTIONS, *overrides],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("overrides", "with_numba", "with_tensorboard"),
    [
        (["model=bigram"], False, True),
        (["model=multihead"], True, True),
        (["model=multihead", "model.block_size=32", "logger=csv"], False, False),
    ],
)
def test_a_run_imports_numba_and_tensorboard_only_where_it_uses_them(
    tmp_path: Path, overrides: list[str], with_numba: bool, with_tensorboard: bool
) -> None:
    modules = imported(tmp_path, *overrides)
    assert ("numba" in modules) is with_numba
    assert ("tensorboard.summary" in modules) is with_tensorboard
