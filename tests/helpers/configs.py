"""What the tests share: configs found by globbing ``conf/``, runs in this process, and runs as a user starts them."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from gptladder.cli.script import run_script
from gptladder.runs.naming import quote_override
from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.fit import fit

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
RUNGS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    """The config of a job, as ``train.py`` would compose it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def record_config(run_dir: Path, *overrides: str) -> DictConfig:
    """The config of a job, recorded in its run directory as Hydra records it."""
    overrides = (*overrides, f"run_dir={quote_override(str(run_dir))}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = compose("train", list(overrides), return_hydra_config=True).hydra
        choices = OmegaConf.to_container(hydra.runtime.choices)
    cfg = composed(*overrides)
    (run_dir / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save({"hydra": {"runtime": {"choices": choices, "cwd": str(Path.cwd())}}}, run_dir / ".hydra/hydra.yaml")
    OmegaConf.save(cfg, run_dir / ".hydra/config.yaml")
    return cfg


def trained(run_dir: Path, *overrides: str) -> dict[str, Any]:
    """Train in this process as ``train.py`` does; the result as it stands on disk."""
    cfg = record_config(run_dir, *overrides)
    run = Run(run_dir)
    with run.recording():
        torch.manual_seed(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        fit(build_trainer(cfg, module, data, run), module, data, run)
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
        errors="replace",
        timeout=300,
    )


def ran(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a script in this process, where torch is loaded already."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    run_script(runpy.run_path(str(ROOT / "scripts" / name))["main"])


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
