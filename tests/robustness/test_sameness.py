"""A run goes on with what it began with, or not at all: the same text, tokenizer, split, stream and net."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gptladder.data.text import tiny_shakespeare
from gptladder.runs.naming import quote_override
from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from gptladder.training.build import build_datamodule, build_module, build_trainer, fit
from helpers.configs import composed, trained
from helpers.processes import Warm
from helpers.runs import contents, killed_at, small

CHANGES = {
    "data.split": 0.8,
    "data.stream": "independent",
    "data.batch_size": 8,
    "model.n_layer": 2,
    "model.dropout": 0.1,
    "model.block_size": 4,
    "optimizer.lr": 0.5,
    "trainer.max_steps": 20,
    "trainer.accumulate_grad_batches": 2,
    "hardware.precision": "bf16-mixed",
    "seed": 1,
}
TEXTS = {
    "text": tiny_shakespeare()[5:20_005].encode(),
    "one character": tiny_shakespeare()[:19_999].encode() + b"e",
    "vocabulary": b"0123456789" + tiny_shakespeare()[:20_000].encode(),
}


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed by half, with Hydra's part of the command."""
    directory = tmp_path_factory.mktemp("half")
    words = small(directory)
    done = Warm("train.py", *words, "hydra.run.dir=whole", cwd=directory)
    assert done.end() == 0, done.stderr
    with killed_at(6):
        trained(directory / "run", *words)
    shutil.copytree(directory / "whole" / ".hydra", directory / "run" / ".hydra")
    return directory


def refused(run: Path, *overrides: str) -> str:
    """What is said when a run is gone on with otherwise than it began; nothing of it may be touched."""
    before = contents(run)
    cfg = composed(*overrides, f"run_dir={quote_override(str(run))}")
    entered = Run(run)

    def go_on() -> None:
        with entered.recording():
            data = build_datamodule(cfg)
            learner = build_module(cfg, data)
            fit(build_trainer(cfg, data, learner, entered), learner, data, entered)

    with pytest.raises(UserError) as refusal:
        go_on()
    assert contents(run) == before
    return str(refusal.value)


@pytest.mark.parametrize("key", CHANGES)
def test_a_run_is_not_gone_on_with_otherwise_than_it_began(key: str, half: Path, tried: Callable[..., None]) -> None:
    said = refused(half / "run", *small(half), f"{key}={CHANGES[key]}")
    assert f"{key.removeprefix('trainer.max_steps') or 'max_steps'}".split(".")[-1] in said
    assert "put back what changed" in said
    tried(changed_recipes=1)


@pytest.mark.parametrize("change", TEXTS)
def test_a_run_is_not_gone_on_with_on_another_text(change: str, half: Path, tried: Callable[..., None]) -> None:
    text = half / "text.txt"
    original = text.read_bytes()
    try:
        text.write_bytes(TEXTS[change])
        said = refused(half / "run", *small(half))
    finally:
        text.write_bytes(original)
    assert "corpus_sha256 was" in said
    assert ("tokens.vocabulary was" in said) == (change == "vocabulary")
    tried(changed_recipes=1)


@pytest.mark.parametrize("change", ["text", "missing text", "n_layer"])
def test_the_command_refuses_with_one_line_and_touches_nothing(
    change: str, half: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    run, text = tmp_path / "run", half / "text.txt"
    shutil.copytree(half / "run", run)
    config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
    config["data"]["path"] = str(tmp_path / "text.txt")
    if change != "missing text":
        (tmp_path / "text.txt").write_bytes(text.read_bytes() + b"!" * (change == "text"))
    if change == "n_layer":
        config["model"]["n_layer"] = 2
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    before = contents(run)
    resumed = Warm("train.py", f"resume={run}", cwd=tmp_path)
    assert resumed.end() == 2, resumed.stderr
    (line,) = resumed.stderr.splitlines()
    assert {"text": "corpus_sha256", "missing text": "cannot be read", "n_layer": "model.n_layer was 3 and is 2"}[
        change
    ] in line
    assert contents(run) == before
    tried(changed_recipes=1)


def test_a_sweep_does_not_take_a_finished_job_for_one_on_another_text(
    tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = ("train.py", "-m", *small(tmp_path), "model=bigram", "sweep=s")
    first = Warm(*words, cwd=tmp_path)
    assert first.end() == 0, first.stderr
    with (tmp_path / "text.txt").open("a") as file:
        file.write("more")
    second = Warm(*words, cwd=tmp_path)
    assert second.end() == 2, second.stderr
    assert "the text changed since: fresh=true starts over" in second.stderr
    tried(changed_recipes=1)
