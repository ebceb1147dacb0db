"""Exports: safetensors and JSON that write and measure as the checkpoint does, and cannot run anything."""

import json
from pathlib import Path

import pytest
import torch

from gptladder.runs.checkpoint import load_trained
from gptladder.system.errors import UserError
from helpers.configs import command, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very short run, exported."""
    directory = tmp_path_factory.mktemp("export") / "run"
    trained(directory, "model=multihead", "trainer.max_steps=1", "logger=none", "~callbacks.samples")
    done = command("scripts/export.py", "--run", str(directory), cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_an_export_is_the_net_of_the_checkpoint(run: Path) -> None:
    ours, theirs = load_trained(run / "checkpoints/last.ckpt"), load_trained(run / "export/model.safetensors")
    weights, exported = ours.net.state_dict(), theirs.net.state_dict()
    assert weights.keys() == exported.keys()
    assert all(torch.equal(weights[name], exported[name]) for name in weights)
    assert theirs.tokenizer.state_dict() == ours.tokenizer.state_dict()
    assert theirs.corpus_sha256 == ours.corpus_sha256


def test_generate_and_evaluate_accept_an_export(run: Path) -> None:
    for script, *words in (("generate", "--tokens", "20"), ("evaluate", "--json")):
        by_run = command(f"scripts/{script}.py", "--run", str(run), *words, cwd=run)
        by_export = command(
            f"scripts/{script}.py", "--checkpoint", str(run / "export/model.safetensors"), *words, cwd=run
        )
        assert by_export.returncode == 0, by_export.stderr
        assert by_export.stdout == by_run.stdout


def test_an_export_does_not_tell_where_the_run_was_made(run: Path) -> None:
    assert str(run.parent) not in (run / "export/model.json").read_text()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"\x80\x04K\x01.", b"{}"])
def test_a_damaged_export_is_a_mistake(name: str, content: bytes | None, run: Path, tmp_path: Path) -> None:
    for file in (run / "export").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="model"):
        load_trained(tmp_path / "model.safetensors")


def test_weights_of_another_architecture_are_a_mistake(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "export/model.json").read_text())
    record["config"]["model"]["n_embd"] = 64
    (tmp_path / "model.json").write_text(json.dumps(record))
    (tmp_path / "model.safetensors").write_bytes((run / "export/model.safetensors").read_bytes())
    with pytest.raises(UserError, match="does not fit"):
        load_trained(tmp_path / "model.safetensors")


def test_where_nothing_can_be_written_is_a_mistake(run: Path) -> None:
    done = command("scripts/export.py", "--run", str(run), "--out", "/dev/null/x", cwd=run)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "/dev/null" in done.stderr
