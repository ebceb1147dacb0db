"""Every command of the docs runs, as a user would paste it, with training cut short; so does every line of Python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gptladder.cli.command_line import CommandLine
from helpers.configs import CONF, ROOT

PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if "```console" in path.read_text())

# Pasted into a checkout of one's own; `debug=fast` comes last and wins, so that each training takes seconds.
SHELL = """
set -euo pipefail
python() {
    case "$*" in
        *resume=* | *debug=* | *experiment=lr_find* | *plan=true*) command python "$@" ;;
        *outputs/first*) exec python "$@" trainer.max_steps=3000 ;;  # in the background, until it is interrupted
        train.py*) command python "$@" debug=fast ;;
        *) command python "$@" ;;
    esac
}
"""


def commands(page: Path) -> str:
    return "\n".join(re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


def test_the_docs_have_commands() -> None:
    assert len(PAGES) >= 5


def test_the_experiment_file_in_the_docs_is_a_sweep(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    found = re.search(r"cat > conf/(experiment/\w+\.yaml) <<'YAML'\n(.*?)^YAML$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    path = tmp_path / found[1]
    path.parent.mkdir()
    path.write_text(found[2])
    line = CommandLine(["--config-dir", str(tmp_path), f"experiment={path.stem}"], CONF)
    line.check_settings()
    config = line.compose()
    assert line.is_sweep
    assert "--multirun" in line.sweep_arguments()
    assert (config.sweep, list(config.tags)) == ("my_rates", ["rates"])
    assert config.hydra.runtime.choices["hydra/launcher"] == "joblib"
    assert dict(config.hydra.sweeper.params) == {"model": "bigram,multihead", "optimizer.lr": "1e-3,3e-3,1e-2"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if "experiment=search" in commands(page):
        pytest.importorskip("optuna", reason="needs its extra: pip install -e '.[search]'")
    for name in ("conf", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "train.py", tmp_path)
    for name in ("my.txt", "other.txt"):
        (tmp_path / name).write_text((ROOT / "README.md").read_text() * 3)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", SHELL + commands(page)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_every_recipe_of_the_notebook_page_draws_its_figure(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "notebook.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 5
    code = "import matplotlib; matplotlib.use('agg')\n" + "\n".join(blocks)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    named = [re.findall(r'savefig\("(\w+\.png)"', block) for block in blocks]
    assert all(len(names) == 1 for names in named)
    assert all((tmp_path / name).stat().st_size > 5000 for (name,) in named)
