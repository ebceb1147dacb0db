"""Checkpoints are read without executing what they contain, and invalid ones are refused with the reason."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gptladder.runs.checkpoint import load_trained, read_checkpoint
from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.malice import Malice


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a very short run."""
    run = tmp_path_factory.mktemp("run")
    trained(run, "model=multihead", "trainer.max_steps=1", "trainer.log_every_n_steps=1", "logger=none")
    return run / "checkpoints" / "last.ckpt"


def test_a_checkpoint_holds_plain_containers_only(checkpoint: Path) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert all(type(key) in (str, int) for key in value)
            for part in value.values():
                check(part)
        elif isinstance(value, list | tuple):
            for part in value:
                check(part)
        else:
            assert value is None or type(value) in (bool, int, float, str, torch.Tensor)

    check(read_checkpoint(checkpoint))


def test_a_network_is_rebuilt_with_its_weights_and_vocabulary(checkpoint: Path) -> None:
    rebuilt = load_trained(checkpoint)
    weights = {f"net.{name}": tensor for name, tensor in rebuilt.net.state_dict().items()}
    saved = read_checkpoint(checkpoint)["state_dict"]
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)
    assert rebuilt.tokenizer.vocab_size == 65
    assert rebuilt.block_size == 8
    assert not rebuilt.net.training


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_a_user_error(kept: float, checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    path = tmp_path / "truncated.ckpt"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"truncated\.ckpt cannot be read"):
        load_trained(path)


@pytest.mark.parametrize(
    "content",
    [b"to be or not to be\n", b"\x80\x02.", b"\x80\x04K\x01.", b"PK\x03\x04", b"\0" * 1000, bytes(range(256)) * 40],
    ids=["text", "pickle2", "pickle4", "zip", "zeros", "bytes"],
)
def test_any_other_file_is_a_user_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"was not written by (a run|gpt-ladder)"):
        load_trained(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"gptladder": "yes"}, nn.Linear(2, 2)], ids=repr
)
def test_a_file_saved_by_another_program_is_a_user_error(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="written by"):
        load_trained(tmp_path / "foreign.ckpt")


@pytest.mark.parametrize("plain", [True, False])
def test_a_malicious_checkpoint_executes_nothing(plain: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "malice.ckpt", tmp_path / "proof"
    with path.open("wb") as file:
        (pickle.dump if plain else torch.save)({"gptladder": Malice(proof)}, file)
    with pytest.raises(UserError, match="cannot be read"):
        load_trained(path)
    assert not proof.exists()


@pytest.mark.parametrize("path", ["absent.ckpt", "."])
def test_a_missing_checkpoint_is_a_user_error(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_trained(tmp_path / path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["gptladder", "net", "n_embd"], 64),
        (["gptladder", "net", "kind"], "os.mkdir"),
        (["gptladder", "net", "depth"], 3),
        (["gptladder", "net", "vocab_size"], 64),
        (["gptladder", "net", "block_size"], 16),
        (["gptladder", "net"], None),
        (["gptladder", "config", "model", "block_size"], 16),
        (["gptladder", "config"], None),
        (["gptladder", "tokenizer", "vocabulary"], "abc"),
        (["gptladder", "tokenizer", "vocabulary"], 65),
        (["gptladder", "tokenizer", "kind"], "bytes"),
        (["gptladder", "tokenizer"], {}),
        (["state_dict"], {}),
        (["state_dict"], None),
    ],
)
def test_contents_that_do_not_fit_together_are_a_user_error(
    keys: list[str], value: Any, checkpoint: Path, tmp_path: Path
) -> None:
    content = read_checkpoint(checkpoint)
    node = content
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt does not fit a network of this version"):
        load_trained(tmp_path / "other.ckpt")


@pytest.mark.parametrize("old", [False, True])
def test_a_target_in_a_recorded_config_is_never_instantiated(old: bool, checkpoint: Path, tmp_path: Path) -> None:
    content, proof = read_checkpoint(checkpoint), tmp_path / "proof"
    for group in ("model", "tokenizer", "optimizer"):
        content["gptladder"]["config"][group] |= {"_target_": "os.mkdir", "path": str(proof)}
    if old:  # version 0.1 named the network by its target
        del content["gptladder"]["net"]
    torch.save(content, tmp_path / "other.ckpt")
    if old:
        with pytest.raises(UserError, match="does not fit"):
            load_trained(tmp_path / "other.ckpt")
    else:
        load_trained(tmp_path / "other.ckpt")
    assert not proof.exists()
