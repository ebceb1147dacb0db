"""What is said of each mistake, and that errors of ours keep their traceback."""

from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from gptladder.cli.config_errors import explain
from gptladder.cli.run_directory import reserve_run_dir
from helpers.configs import CONF, trained


def said(run_dir: Path, *overrides: str) -> str:
    """How ``train.py`` explains what goes wrong with these overrides, found while composing or while building."""
    with pytest.raises(Exception) as mistake, reserve_run_dir([*overrides, f"hydra.run.dir={run_dir}"], CONF):  # noqa: PT011
        trained(run_dir, *overrides)
    assert not run_dir.exists()
    explanation = explain(mistake.value, CONF)
    assert explanation is not None, repr(mistake.value)
    assert "\n" not in explanation
    return explanation


@pytest.mark.parametrize("group", sorted(path.name for path in CONF.iterdir() if any(path.glob("*.yaml"))))
def test_an_unknown_choice_names_the_nearest_one(group: str, tmp_path: Path) -> None:
    choice = sorted((CONF / group).glob("*.yaml"))[0].stem
    explanation = said(tmp_path / "run", f"{group}={choice}x")
    assert explanation == f"{group}={choice}x does not exist: did you mean {choice}?" or len(choice) < 4


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("mdl=bigram", "did you mean model?"),
        ("optimizer.lrr=1", "did you mean optimizer.lr?"),
        ("data.pth=x", "did you mean data.path?"),
        ("zzzzzz=1", "there are ablation, callbacks, data, "),
        ("model.n_head=2", "is a key of larger rungs"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(override: str, nearest: str, tmp_path: Path) -> None:
    explanation = said(tmp_path / "run", override)
    assert explanation.startswith(override.partition("=")[0])
    assert nearest in explanation


def test_a_key_that_is_not_in_a_mapping_says_how_it_gets_there(tmp_path: Path) -> None:
    explanation = said(tmp_path / "run", "experiment=marathon", "data.length_warmup={32: 100}")
    assert explanation == "data.length_warmup is there, without 32: write ++data.length_warmup=... to add to it"


@pytest.mark.parametrize(
    "override",
    [
        "model.n_layer=abc",
        "model.n_layer=-1",
        "model.n_head=0",
        "model.block_size=1.5",
        "model.dropout=2",
        "model.dropout=nan",
        "model.norm_position=foo",
        "model.attention=foo",
        "data.batch_size=0",
        "data.batch_size=abc",
        "data.split=2",
        "data.split=abc",
        "data.stream=foo",
        "optimizer.lr=abc",
        "optimizer.lr=-1",
        "optimizer.lr=0",
        "optimizer.lr=nan",
        "optimizer.lr=inf",
        "seed=abc",
        "seed=1.5",
        "seed=-1",
        "seed=99999999999999999999",
        "trainer.max_steps=0",
        "trainer.max_steps=abc",
        "trainer.val_check_interval=0",
        "trainer.accumulate_grad_batches=0",
        "hardware.precision=16-mixed",
        "hardware.accelerator=abacus",
        "hardware.threads=0",
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(override: str, tmp_path: Path) -> None:
    assert said(tmp_path / "run", "model=multihead", override).startswith(override)


@pytest.mark.parametrize("hardware", ["gpu", "ddp", "mps"])
def test_hardware_that_is_not_there_is_a_mistake(
    hardware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert "take hardware=cpu" in said(tmp_path / "run", f"hardware={hardware}")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["model=multihead", "model.n_embd=30"], "model.n_embd=30 is not divisible by model.n_head=4: take n_embd=28"),
        (["+model.depth=3"], "unexpected keyword argument 'depth'"),
        (["~data.stream"], "'stream' (the key is in data)"),
        (["~seed"], "'seed' not found"),
        (["data.path=${nothing}"], "'nothing' not found: give data.path a value"),
        (["model=3"], "name of one of its choices"),
        (["model.block_size=???"], "model.block_size must be given"),
        (["seed=1,2"], "-m"),
        (["seed=[1"], "quote"),
    ],
)
def test_a_mistake_says_what_is_wrong(overrides: list[str], part: str, tmp_path: Path) -> None:
    assert part in said(tmp_path / "run", *overrides)


def test_a_text_whose_name_is_a_number_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2026").write_text("short")
    assert "longer text" in said(tmp_path / "run", "data=text", "data.path=2026")


@pytest.mark.parametrize("error", [TypeError("in our code"), AttributeError("cfg.trainr"), ValueError(), KeyError("x")])
def test_an_error_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert explain(error, CONF) is None


def test_a_launcher_that_is_not_installed_names_its_extra() -> None:
    error = MissingConfigException("absent", missing_cfg_file="hydra/launcher/ray", options=["basic", "joblib"])
    assert "pip install -e '.[slurm]' or '.[ray]'" in str(explain(error, CONF))
