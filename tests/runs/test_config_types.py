"""A value of the wrong type is one line, before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gptladder.runs.config_types import check_config
from gptladder.system.errors import UserError
from helpers.configs import CONF, RUNGS, composed
from helpers.processes import warm_command

CHOICES = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("model", "launcher", "experiment", "ablation")
]


def config(*overrides: str) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed(*overrides), resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def message(*overrides: str) -> str | None:
    """What is wrong with a config; ``None`` if nothing is."""
    try:
        check_config(config(*overrides))
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_has_the_types_of_its_keys(rung: str) -> None:
    assert message(f"model={rung}") is None


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_has_the_types_of_its_keys(group: str, choice: str) -> None:
    assert message("model=layernorm", f"{group}={choice}") is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        *((f"model.residual={value}", "true or false") for value in ("no", "off", "None", "null", "0", "1", "[]")),
        *((f"{key}=no", "true or false") for key in ("fresh", "plan", "evaluate_first")),
        ("hardware.compile=no", "auto, true or false"),
        ("hardware.compile=1", "auto, true or false"),
        ("model.scale=yes", "true or false"),
        ("model.bias=off", "true or false"),
        ("optimizer.fused=no", "true or false"),
        ("callbacks.best.save_weights_only=no", "true or false"),
        ("model.n_layer=three", "an integer"),
        ("model.n_layer=2.5", "an integer"),
        ("model.n_layer=true", "an integer"),
        ("model.dropout=none", "a number"),
        ("model.head_size=big", "an integer or null"),
        ("data.split=most", "a number"),
        ("data.estimate_batches=many", "an integer"),
        ("optimizer.betas=[0.9]", "a list of 2 numbers, such as [0.9,0.999]"),
        ("optimizer.betas=0.9", "a list of 2 numbers"),
        ("optimizer.betas=[a,b]", "a list of 2 numbers"),
        ("trainer.max_epochs=abc", "an integer"),
        ("trainer.gradient_clip_val=none", "a number or null"),
        ("callbacks.samples.n_tokens=few", "an integer"),
    ],
)
def test_a_value_of_another_type_is_refused(override: str, expected: str) -> None:
    key, _, value = override.lstrip("+").partition("=")
    refused = message("model=layernorm", override)
    assert refused is not None
    assert refused.startswith(f"{key}=")
    assert f"must be {expected}".replace(" ", "") in refused.replace(" ", "")
    assert value


def test_the_type_of_a_key_of_early_stopping_is_known() -> None:
    refused = message("callbacks=early_stopping", "callbacks.early_stopping.patience=abc")
    assert refused == "callbacks.early_stopping.patience=abc must be an integer"


@pytest.mark.parametrize(
    "override",
    [
        "model.dropout=0",
        "model.head_size=8",
        "trainer.gradient_clip_val=1",
        "trainer.gradient_clip_val=null",
        "hardware.devices=auto",
        "callbacks.progress=null",
        "sweep=2026",
        "+trainer.limit_train_batches=0.5",
        "+callbacks.best.save_top_k=abc",
        "model.residual=${evaluate_first}",
        "optimizer.betas=[0,0.9]",
    ],
)
def test_other_values_are_left_to_the_constructors(override: str) -> None:
    assert message("model=layernorm", override) is None


@pytest.mark.parametrize("group", ["logger", "scheduler", "callbacks", "hardware", "optimizer", "trainer"])
def test_a_group_that_was_removed_is_named_with_what_to_use_instead(group: str) -> None:
    assert (message(f"~{group}") or "").startswith(f"a run needs {group}: ")


@pytest.mark.parametrize(
    "arguments", [["fresh=no", "-m", "seed=1,2"], ["model.residual=no"], ["~hardware"], ["plan=no"]]
)
def test_the_command_refuses_them_before_anything_runs(arguments: list[str], tmp_path: Path) -> None:
    done = warm_command("train.py", "model=layernorm", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer.betas=[0.9,nan]"], "optimizer.betas=[0.9, nan] must be finite"),
        (["optimizer.weight_decay=inf"], "optimizer.weight_decay=inf must be finite"),
        (["+optimizer.eps=inf"], "optimizer.eps=inf must be finite"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1 must be a number from 1e-12"),
        (["trainer.gradient_clip_val=0"], "trainer.gradient_clip_val=0 must be a number from 1e-12"),
        (["scheduler=cosine", "scheduler.min_lr_ratio=-5"], "scheduler.min_lr_ratio=-5 must be a number from 0 to 1"),
        (["scheduler=linear", "scheduler.min_lr_ratio=100"], "scheduler.min_lr_ratio=100 must be a number from 0 to 1"),
        (["optimizer=muon", "optimizer.ns_steps=-3"], "optimizer.ns_steps=-3 must be a number from 1 to 100"),
        (["hardware.threads=100000"], "hardware.threads=100000 must be a number from 1 to 1024"),
        (["hardware.threads=true"], "hardware.threads=True must be a number from 1 to 1024"),
        (["experiment=lr_find", "callbacks.lr_find.n_steps=0"], "callbacks.lr_find.n_steps=0 must be a number from 20"),
        (["callbacks=early_stopping", "callbacks.early_stopping.patience=-1"], "patience=-1 must be a number from 1"),
        (["rung=../../x"], "rung=../../x must be a name"),
        (["rung=5"], "rung=5 must be a name"),
        (["rung=null"], "rung=None must be a name"),
        (["rung=[a,b]"], "must be a name"),
        (["~trainer.max_steps"], "a run needs trainer.max_steps: leave out ~trainer.max_steps, or set it"),
        (["~unknown_characters"], "a run needs unknown_characters"),
        (["~data.block_size"], "a run needs data.block_size"),
        (["~fast"], "a run needs fast"),
    ],
    ids=str,
)
def test_a_value_out_of_its_range_and_a_key_that_is_missing_are_refused(overrides: list[str], expected: str) -> None:
    assert expected in (message("model=layernorm", *overrides) or "")
