"""Resume needs the same text, tokenizer, split, stream and network, and refuses otherwise without a trace."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gptladder.data.text import tiny_shakespeare
from gptladder.runs.naming import quote_override
from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.fit import fit
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
    """The directory of ``run``, which was killed halfway."""
    directory = tmp_path_factory.mktemp("half")
    words = small(directory)
    done = Warm("train.py", *words, "hydra.run.dir=whole", cwd=directory)
    assert done.end() == 0, done.stderr
    with killed_at(6):
        trained(directory / "run", *words)
    shutil.copytree(directory / "whole" / ".hydra", directory / "run" / ".hydra", dirs_exist_ok=True)
    return directory


def refuse_resume(run_dir: Path, *overrides: str) -> str:
    """Resume with another config, which must fail and touch no file; returns the message."""
    before = contents(run_dir)
    cfg = composed(*overrides, f"run_dir={quote_override(str(run_dir))}")
    run = Run(run_dir)

    def resume() -> None:
        with run.recording():
            data = build_datamodule(cfg)
            module = build_module(cfg, data)
            fit(build_trainer(cfg, module, data, run), module, data, run)

    with pytest.raises(UserError) as error:
        resume()
    assert contents(run_dir) == before
    return str(error.value)


@pytest.mark.parametrize("key", CHANGES)
def test_resume_refuses_a_changed_config(key: str, half: Path, tried: Callable[..., None]) -> None:
    message = refuse_resume(half / "run", *small(half), f"{key}={CHANGES[key]}")
    assert f"{key.split('.')[-1]} was " in message
    assert "restore what changed, or start a new run" in message
    tried(changed_recipes=1)


@pytest.mark.parametrize("change", TEXTS)
def test_resume_refuses_a_changed_text(change: str, half: Path, tried: Callable[..., None]) -> None:
    text = half / "text.txt"
    original = text.read_bytes()
    try:
        text.write_bytes(TEXTS[change])
        message = refuse_resume(half / "run", *small(half))
    finally:
        text.write_bytes(original)
    assert "corpus_sha256 was" in message
    assert ("tokens.vocabulary was" in message) == (change == "vocabulary")
    tried(changed_recipes=1)


@pytest.mark.parametrize("change", ["text", "missing text", "n_layer"])
def test_resume_of_a_changed_run_is_one_line_and_touches_no_file(
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


def test_a_sweep_refuses_a_finished_job_on_a_changed_text(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = ("train.py", "-m", *small(tmp_path), "model=bigram", "sweep=s")
    first = Warm(*words, cwd=tmp_path)
    assert first.end() == 0, first.stderr
    with (tmp_path / "text.txt").open("a") as file:
        file.write("more")
    second = Warm(*words, cwd=tmp_path)
    assert second.end() == 2, second.stderr
    assert "corpus_sha256 was" in second.stderr
    assert "use fresh=true to train it again" in second.stderr
    tried(changed_recipes=1)
