"""``scripts/benchmark.py`` and the baseline with stock Lightning."""

import re
from pathlib import Path

import pytest
import stock_lightning
import torch
from hydra.utils import instantiate

from helpers.configs import ROOT, command, composed


def test_help_lists_the_benchmarks(tmp_path: Path) -> None:
    done = command("scripts/benchmark.py", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "{step,plain," in done.stdout


@pytest.mark.parametrize("rung", stock_lightning.RUNGS)
def test_the_stock_baseline_has_the_network_of_the_rung(rung: str) -> None:
    torch.manual_seed(1)
    ours = instantiate(composed(f"model={rung}").model, vocab_size=65).state_dict()
    torch.manual_seed(1)
    stock = stock_lightning.RUNGS[rung](vocab_size=65).state_dict()
    assert ours.keys() == stock.keys()
    assert all(torch.equal(ours[name], stock[name]) for name in ours)


def test_the_stock_baseline_prints_the_time_per_step(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text((ROOT / "README.md").read_text())
    done = command("scripts/baselines/stock_lightning.py", "text.txt", "bigram", "--steps", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"bigram \d+\.\d+ ms per step\n", done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
