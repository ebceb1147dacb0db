"""Claims about the recipes beyond the ladder: they build, run, and go on as if never stopped."""

from pathlib import Path

import pytest
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.evaluation.loss import exact_loss, validation_split
from gptladder.runs.checkpoint import load_trained
from gptladder.training.build import build_datamodule, build_module
from gptladder.training.lightning_module import LanguageModel
from helpers.configs import CONF, composed, trained

RECIPES = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml")) if "\nrung: " in path.read_text()]
SHORT = ["trainer.max_steps=6", "trainer.val_check_interval=3", "data.batch_size=2", "data.estimate_batches=1"]
SMALL = ["evaluate_first=true", "data.stream=independent", "hardware.threads=1", "logger=none"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "short.txt"
    path.write_text(tiny_shakespeare()[:20_000])
    return str(path)


def weights(run: Path) -> list[torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    moments = [torch.as_tensor(v) for s in checkpoint["optimizer_states"][0]["state"].values() for v in s.values()]
    return [*checkpoint["state_dict"].values(), *moments]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_experiment_builds(recipe: str) -> None:
    cfg = composed(f"experiment={recipe}", "run_dir=x", "hardware=cpu")
    learner = build_module(cfg, build_datamodule(cfg))
    optimizer = learner.build_optimizer(learner.net.named_parameters())
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    assert held == set(learner.net.parameters())


def test_a_speedrun_that_stopped_goes_on_with_the_same_bits(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["experiment=speedrun", *SHORT, *SMALL, "data=text", f"data.path={text}"]
    whole = trained(tmp_path / "whole", *words)
    step = LanguageModel.training_step

    def stop(self: LanguageModel, *batch: object) -> None:
        if self.global_step >= 3:
            raise RuntimeError("stopped by the test")
        step(self, *batch)

    monkeypatch.setattr(LanguageModel, "training_step", stop)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        trained(tmp_path / "parts", *words)
    monkeypatch.undo()
    parts = trained(tmp_path / "parts", *words)
    assert parts["curve"] == whole["curve"]
    assert len(parts["curve"]) == 3
    pairs = list(zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True))
    assert len(pairs) > 12
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_speedrun_comes_back_from_its_checkpoint_in_full_precision(text: str, tmp_path: Path) -> None:
    result = trained(tmp_path / "run", "experiment=speedrun", *SHORT, *SMALL, "data=text", f"data.path={text}")
    last = load_trained(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert {parameter.dtype for parameter in last.net.parameters()} == {torch.float32}
    loss = exact_loss(last.net, validation_split(last).tokens, block_size=64)
    assert result["val_loss"] == pytest.approx(loss, abs=0.01)
    assert result["val_loss"] < result["curve"][0]["val_loss"] - 0.5


def test_the_speedrun_keeps_nanogpts_context() -> None:
    ours, theirs = (composed(f"experiment={name}", "run_dir=x") for name in ("speedrun", "nanogpt_cpu"))
    assert ours.model.block_size == ours.data.block_size == theirs.model.block_size == 64
