"""Exports: safetensors and JSON that give the same text and loss as the checkpoint, and cannot contain code."""

import json
from pathlib import Path

import pytest
import torch

from gptladder.runs.checkpoint import load_trained
from gptladder.runs.export import export
from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.processes import Warm, warm_command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very short run, exported."""
    directory = tmp_path_factory.mktemp("export") / "run"
    trained(directory, "model=multihead", "trainer.max_steps=1", "logger=none", "~callbacks.samples")
    done = warm_command("scripts/export.py", "--run", str(directory), cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


def test_an_export_has_the_network_and_tokenizer_of_the_checkpoint(run: Path) -> None:
    saved, loaded = load_trained(run / "checkpoints/last.ckpt"), load_trained(run / "export/model.safetensors")
    weights, exported = saved.net.state_dict(), loaded.net.state_dict()
    assert weights.keys() == exported.keys()
    assert all(torch.equal(weights[name], exported[name]) for name in weights)
    assert loaded.tokenizer.state_dict() == saved.tokenizer.state_dict()
    assert loaded.corpus_sha256 == saved.corpus_sha256


def test_generate_and_evaluate_accept_an_export(run: Path) -> None:
    for script, *words in (("generate", "--tokens", "20"), ("evaluate", "--json")):
        by_run = Warm(f"scripts/{script}.py", "--run", str(run), *words, cwd=run)
        by_export = Warm(f"scripts/{script}.py", "--checkpoint", str(run / "export/model.safetensors"), *words, cwd=run)
        assert by_run.end() == 0, by_run.stderr
        assert by_export.end() == 0, by_export.stderr
        assert by_export.stdout == by_run.stdout


def test_weights_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(2), "b": torch.tensor([1.0, float("nan")])}
    with pytest.raises(UserError, match="the weights b are not all finite"):
        export({"config": {}}, weights, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_export_does_not_contain_the_path_of_the_run(run: Path) -> None:
    assert str(run.parent) not in (run / "export/model.json").read_text()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"\x80\x04K\x01.", b"{}"])
def test_a_damaged_export_is_a_user_error(name: str, content: bytes | None, run: Path, tmp_path: Path) -> None:
    for file in (run / "export").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="model"):
        load_trained(tmp_path / "model.safetensors")


def test_weights_of_another_architecture_are_a_user_error(run: Path, tmp_path: Path) -> None:
    metadata = json.loads((run / "export/model.json").read_text())
    metadata["net"]["n_embd"] = 64
    (tmp_path / "model.json").write_text(json.dumps(metadata))
    (tmp_path / "model.safetensors").write_bytes((run / "export/model.safetensors").read_bytes())
    with pytest.raises(UserError, match="does not fit"):
        load_trained(tmp_path / "model.safetensors")


def test_an_output_directory_that_cannot_be_written_is_a_user_error(run: Path) -> None:
    done = warm_command("scripts/export.py", "--run", str(run), "--out", "/dev/null/x", cwd=run)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "/dev/null" in done.stderr
