"""A wheel, built from a checkout and installed elsewhere, does what the checkout does."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gptladder.cli.commands import COMMANDS
from gptladder.runs.configs import CONF
from helpers import configs
from helpers.configs import ROOT

pytestmark = pytest.mark.xdist_group("wheel")  # one process builds it for all of them

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_a_checkout_uses_its_own_conf() -> None:
    assert CONF == ROOT / "conf"


def test_the_wheel_has_every_config_template_and_plugin(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = ("*.py", "*.yaml", "*.j2", "*.json", "*.txt", "py.typed")
    expected = {f"gptladder/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    expected |= {
        str(path.relative_to(ROOT / "src")) for kind in kinds for path in (ROOT / "src").rglob(kind)
        if ".egg-info" not in str(path)
    }  # fmt: skip
    assert len(expected) > 200
    assert expected - names == set()
    other = {name for name in names if not name.startswith(("gptladder/", "hydra_plugins/gptladder_sweeper/"))}
    assert all(".dist-info/" in name for name in other)


def test_the_program_trains_outside_of_the_checkout(installed: Command, tmp_path: Path) -> None:
    words = ("model=multihead", "trainer.max_steps=20", "data.estimate_batches=2")
    done = installed("gpt-ladder", *words)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/multihead/*")
    result = json.loads((path / "result.json").read_text())
    assert result["command"] == "gpt-ladder model=multihead trainer.max_steps=20 data.estimate_batches=2"
    assert f"gpt-ladder generate --run outputs/multihead/{path.name}" in done.stdout
    assert "python" not in done.stdout
    checkout = configs.trained(tmp_path / "checkout", *words)
    assert result["curve"] == checkout["curve"]


def test_a_mistake_is_one_line_with_exit_code_2(installed: Command) -> None:
    for words, message in (
        (["model=multihed"], "error: model=multihed does not exist: did you mean multihead?\n"),
        (["generat", "--run", "x"], "error: generat is not a command: did you mean generate?\n"),
        (["generate", "--run", "x"], "error: there is no checkpoint x/checkpoints/last.ckpt: "),
    ):
        done = installed("gpt-ladder", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1


def test_the_help_names_the_program_and_its_commands(installed: Command) -> None:
    shown = installed("gpt-ladder", "--help", COLUMNS="80").stdout
    assert "gpt-ladder [GROUP=CHOICE ...] [KEY=VALUE ...]" in shown
    assert all(f"gpt-ladder {name}" in shown for name in COMMANDS)
    assert "python" not in shown
    assert "usage: gpt-ladder ngram" in installed("gpt-ladder", "ngram", "--help").stdout


@pytest.mark.slow
def test_a_script_outside_of_the_checkout_uses_the_library(installed: Command, site: Path, tmp_path: Path) -> None:
    script = tmp_path / "outside.py"
    script.write_bytes((Path(__file__).parent / "outside.py").read_bytes())
    done = installed(str(script))
    assert done.returncode == 0, done.stderr
    assert "ROMEO:" in done.stdout
    assert done.stdout.splitlines()[-1] == str(site / "gptladder" / "__init__.py")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 300


@pytest.mark.slow
def test_every_command_of_the_program_works_on_a_sweep(installed: Command, tmp_path: Path) -> None:
    words = ("-m", "model=bigram,multihead", "trainer.max_steps=20", "sweep=s", "data.estimate_batches=2")
    done = installed("gpt-ladder", *words)
    assert done.returncode == 0, done.stderr
    run = next(tmp_path.glob("outputs/s/multihead*"))
    for command in (
        ["generate", "--run", str(run), "--tokens", "20"],
        ["evaluate", "--run", str(run)],
        ["inspect", "--run", str(run)],
        ["export", "--run", str(run)],
        ["report", "outputs/s"],
        ["claims", "--help"],
        ["ngram", "--order", "2"],
        ["tour", "--chapter", "9", "--plain"],
        [f"resume={run}"],
    ):
        done = installed("gpt-ladder", *command)
        assert done.returncode == 0, (command, done.stderr)
        assert "python " not in done.stdout
