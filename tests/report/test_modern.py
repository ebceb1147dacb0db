"""The page on the ladder from nanoGPT to Llama."""

from pathlib import Path

import pytest

from gptladder.report.aggregate import group_runs
from gptladder.report.columns import MINUS
from gptladder.report.load_runs import load_runs
from gptladder.report.modern import SECTIONS, modern_page
from helpers.configs import CONF, composed
from helpers.processes import warm_command
from helpers.results import run

RUNGS = ("nanogpt", "rope", "llama")


@pytest.fixture
def sweeps(tmp_path: Path) -> Path:
    """Three sweeps of three rungs and two seeds each; the last rung has a lower loss in the second sweep."""
    for index, section in enumerate(SECTIONS):
        for position, rung in enumerate(RUNGS):
            for seed in (1, 2):
                loss = 1.9 - 0.01 * position * (1 + index) - 0.001 * seed * position
                run(tmp_path / section.sweep, "layernorm", name=rung, seed=seed, val_loss=loss, published=None)
    return tmp_path


def test_the_page_has_a_table_per_sweep_with_intervals(sweeps: Path) -> None:
    rows = {section.sweep: group_runs(load_runs(sweeps / section.sweep)) for section in SECTIONS}
    page = modern_page(rows, "On one machine.")
    tables = page.split("\n## ")[1 : 1 + len(SECTIONS)]
    for section, table in zip(SECTIONS, tables, strict=True):
        assert table.startswith(section.title)
        assert section.difference in table
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert [line.split("|")[1].strip() for line in lines[2:]] == list(RUNGS)
        assert all("±" in line.split("|")[6] for line in lines[2:])
    assert f"{MINUS}0.0115 ±" in tables[0]
    assert page.rstrip().endswith("On one machine.")
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 120


def test_the_command_writes_the_page(sweeps: Path) -> None:
    done = warm_command("scripts/modern.py", str(sweeps), "--out", "docs", cwd=sweeps)
    assert (done.returncode, done.stdout) == (0, "docs/modern.md\n")
    assert (sweeps / "docs" / "modern.md").read_text().startswith("# From nanoGPT to Llama\n")


def test_a_sweep_that_was_not_trained_is_left_out_and_named_with_its_command(sweeps: Path) -> None:
    (sweeps / "modern_equal_time").rename(sweeps / "other")
    done = warm_command("scripts/modern.py", str(sweeps), "--out", "docs", cwd=sweeps)
    line = "left out: modern_equal_time, which python train.py experiment=modern_equal_time trains"
    assert (done.returncode, done.stdout.splitlines()) == (0, [line, "docs/modern.md"])
    assert "Loss at equal time" not in (sweeps / "docs" / "modern.md").read_text()


def test_without_any_of_its_sweeps_there_is_no_page(tmp_path: Path) -> None:
    done = warm_command("scripts/modern.py", str(tmp_path), "--out", "docs", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: there are no runs in {tmp_path / 'modern'}: python train.py experiment=modern makes them\n"
    )
    assert not (tmp_path / "docs").exists()


def test_at_equal_time_every_modern_rung_has_its_own_number_of_steps() -> None:
    steps = composed("experiment=modern_equal_time", "run_dir=x", "model=llama").equal_time_steps
    for rung in steps:
        cfg = composed("experiment=modern_equal_time", "run_dir=x", f"model={rung}")
        assert cfg.trainer.max_steps == steps[rung]
        assert (CONF / "model" / f"{rung}.yaml").is_file()
