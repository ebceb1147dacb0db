"""A checkpoint is complete, or a resume is refused and names what it lacks."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.runs import contents, killed_at, small


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    directory = tmp_path_factory.mktemp("interrupted")
    words = (*small(directory), "data.stream=independent", "scheduler=cosine", "scheduler.warmup_steps=3")
    with killed_at(6):
        trained(directory / "run", *words)
    return directory / "run", words


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def remove(checkpoint: dict[str, Any]) -> None:
        *parents, last = path
        node: Any = checkpoint
        for key in parents:
            node = node[key]
        del node[last]

    return remove


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "optimizer": (without("optimizer_states"), "optimizer_states"),
    "no optimizer": (lambda checkpoint: checkpoint.update(optimizer_states=[]), "optimizer_states"),
    "one moment": (without("optimizer_states", 0, "state", 3), "optimizer_states.state"),
    "loops": (without("loops"), "loops"),
    "fit loop": (without("loops", "fit_loop"), "loops.fit_loop"),
    "callbacks": (without("callbacks"), "callbacks.ResultWriter"),
    "curve": (without("callbacks", "ResultWriter"), "callbacks.ResultWriter"),
    "schedulers": (without("lr_schedulers"), "lr_schedulers"),
    "random states": (without("TextDataModule"), "TextDataModule.global, TextDataModule.n_drawn, TextDataModule.train"),
    "one random state": (without("TextDataModule", "estimate"), "TextDataModule.estimate"),
    "one weight": (without("state_dict", "net.lm_head.bias"), "state_dict.net.lm_head.bias"),
    "step": (without("global_step"), "global_step"),
    "another kind": (lambda checkpoint: checkpoint.update(loops=3), "a readable part"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_checkpoint_that_lacks_a_part_is_refused_and_the_run_stays_as_it_is(
    name: str, interrupted: tuple[Path, tuple[str, ...]], tmp_path: Path, tried: Callable[..., None]
) -> None:
    source, words = interrupted
    run = shutil.copytree(source, tmp_path / "run")
    damage, message = DAMAGES[name]
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, run / "checkpoints/last.ckpt")
    before = {path: content for path, content in contents(run).items() if ".hydra" not in str(path)}
    with pytest.raises(UserError) as refused:
        trained(run, *words)
    assert f"it lacks {message}" in str(refused.value)
    assert {path: content for path, content in contents(run).items() if ".hydra" not in str(path)} == before
    tried(hostile_files=1)


def test_a_complete_one_resumes(interrupted: tuple[Path, tuple[str, ...]], tmp_path: Path) -> None:
    source, words = interrupted
    run = shutil.copytree(source, tmp_path / "run")
    assert trained(run, *words)["status"] == "finished"
