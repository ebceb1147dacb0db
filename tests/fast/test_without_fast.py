"""Deleting ``gptladder.fast`` leaves a working, slower project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.configs import ROOT

OPTIONS = (
    "model=multihead",
    "trainer.max_steps=20",
    "trainer.val_check_interval=10",
    "data.estimate_batches=2",
    "callbacks.samples.n_tokens=5",
    "hydra.run.dir=run",
)


def test_the_project_works_without_the_package(tmp_path: Path) -> None:
    for name in ("src", "conf", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "train.py", tmp_path)
    shutil.rmtree(tmp_path / "src" / "gptladder" / "fast")

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    trained = python("train.py", *OPTIONS)
    assert trained.returncode == 0, trained.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["status"], result["path"], result["step"]) == ("finished", "plain", 20)
    generated = python("scripts/generate.py", "--run", "run", "--tokens", "20")
    assert generated.returncode == 0, generated.stderr
    assert len(generated.stdout) >= 20
    refused = python("train.py", *OPTIONS, "hydra.run.dir=other", "fast=true")
    assert refused.returncode == 2
    assert "gptladder.fast" in refused.stderr
    assert not (tmp_path / "other").exists()
