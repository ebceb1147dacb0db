"""The experiments beyond the ladder: they build, run, and resume with the same bits."""

from pathlib import Path

import pytest
import torch

from gptladder.cli.command_line import CommandLine
from gptladder.data.text import tiny_shakespeare
from gptladder.evaluation.loss import exact_loss
from gptladder.runs.checkpoint import load_trained, validation_tokens
from gptladder.training.build import build_datamodule, build_module
from helpers.configs import CONF, composed, trained
from helpers.marks import slow
from helpers.runs import killed_at

RECIPES = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml")) if "\nrung: " in path.read_text()]
SHORT = ["trainer.max_steps=6", "trainer.val_check_interval=3", "data.batch_size=2", "data.estimate_batches=1"]
SMALL = ["evaluate_first=true", "data.stream=independent", "hardware.threads=1", "logger=none"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "short.txt"
    path.write_text(tiny_shakespeare()[:20_000])
    return str(path)


def weights_and_moments(run: Path) -> list[torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    moments = [torch.as_tensor(v) for s in checkpoint["optimizer_states"][0]["state"].values() for v in s.values()]
    return [*checkpoint["state_dict"].values(), *moments]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_optimizer_of_every_experiment_has_every_parameter_once(recipe: str) -> None:
    cfg = composed(f"experiment={recipe}", "run_dir=x", "hardware=cpu")
    module = build_module(cfg, build_datamodule(cfg))
    assert module.optimizer_factory is not None
    optimizer = module.optimizer_factory(module.net.named_parameters())
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(parameters) == len(set(parameters))
    assert set(parameters) == set(module.net.parameters())


@pytest.mark.parametrize("experiment", [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))])
def test_every_sweep_of_an_experiment_has_the_sweeper_that_names_jobs(experiment: str) -> None:
    if experiment == "search":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs its extra: pip install -e '.[search]'")
    line = CommandLine([f"experiment={experiment}", "-m"], CONF)
    chosen = experiment != "search"  # which chooses Optuna's
    assert ("hydra/sweeper=ladder" in line.sweep_arguments()) == chosen


@pytest.mark.parametrize(
    "recipe",
    [
        ["experiment=speedrun"],
        *slow([["model=llama", "model.n_layer=2", "scheduler.warmup_steps=2"]]),
        ["model=llama", "model.n_layer=2", "scheduler.warmup_steps=2", "ablation=muon"],
    ],
    ids=" ".join,
)
def test_a_killed_run_of_a_recipe_resumes_with_the_same_bits(recipe: list[str], text: str, tmp_path: Path) -> None:
    words = [*recipe, *SHORT, *SMALL, "data=text", f"data.path={text}"]
    whole = trained(tmp_path / "whole", *words)
    with killed_at(4):
        trained(tmp_path / "run", *words)
    resumed = trained(tmp_path / "run", *words)
    assert resumed["curve"] == whole["curve"]
    assert len(resumed["curve"]) == 3
    pairs = list(zip(weights_and_moments(tmp_path / "run"), weights_and_moments(tmp_path / "whole"), strict=True))
    assert len(pairs) > 12
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_checkpoint_of_a_speedrun_is_in_full_precision(text: str, tmp_path: Path) -> None:
    result = trained(tmp_path / "run", "experiment=speedrun", *SHORT, *SMALL, "data=text", f"data.path={text}")
    last = load_trained(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert {parameter.dtype for parameter in last.net.parameters()} == {torch.float32}
    loss = exact_loss(last.net, validation_tokens(last).tokens, block_size=64, vocab_size=65)
    assert result["val_loss"] == pytest.approx(loss, abs=0.01)
    assert result["val_loss"] < result["curve"][0]["val_loss"] - 0.5


def test_the_speedrun_has_the_context_length_of_nanogpt() -> None:
    speedrun, nanogpt = (composed(override, "run_dir=x") for override in ("experiment=speedrun", "model=nanogpt"))
    assert speedrun.model.block_size == speedrun.data.block_size == nanogpt.model.block_size == 64
