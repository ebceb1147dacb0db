"""Two processes that train one network."""

import json
from pathlib import Path

import pytest

from helpers.configs import command

SETTINGS = ["model=layernorm", "trainer.max_steps=20", "trainer.val_check_interval=10"]


@pytest.mark.xdist_group("ddp")
def test_two_processes_equal_one_with_the_same_global_batch(tmp_path: Path) -> None:
    for name, hardware in (("one", "cpu"), ("two", "ddp_cpu")):
        done = command("train.py", *SETTINGS, f"hardware={hardware}", f"hydra.run.dir={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("exact val loss") == 1, "only the first process prints"
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    for point, expected in zip(two["curve"], one["curve"], strict=True):
        assert point == pytest.approx(expected, abs=2e-5)
    assert one["tokens"] == two["tokens"]
    assert two["status"] == "finished"


def test_a_batch_that_cannot_be_divided_is_a_user_error(tmp_path: Path) -> None:
    done = command("train.py", *SETTINGS, "hardware=ddp_cpu", "data.batch_size=31", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    assert "data.batch_size=31 is not divisible by the 2 processes" in done.stderr
    assert not (tmp_path / "run").exists()
