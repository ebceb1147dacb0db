"""Every config in ``conf/``, found by globbing."""

from pathlib import Path

import pytest
import yaml
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from gptladder.runs.configs import flatten
from gptladder.runs.identity import recipe
from gptladder.runs.naming import SHORT_GROUPS
from gptladder.runs.published import published
from helpers.configs import CONF, RUNGS, composed

SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name != "model")


def values(rung: str) -> dict[str, object]:
    cfg = composed(f"model={rung}", "run_dir=x")
    return dict(flatten(OmegaConf.to_container(cfg, resolve=True)))


def own(rung: str) -> dict[str, object]:
    written = yaml.safe_load((CONF / "model" / f"{rung}.yaml").read_text())
    return dict(flatten({key: value for key, value in written.items() if key != "defaults"}))


def parent(rung: str) -> str | None:
    return (yaml.safe_load((CONF / "model" / f"{rung}.yaml").read_text()).get("defaults") or [None])[0]


def overridden_groups(rung: str) -> set[str]:
    """The groups of which a rung takes another choice, such as the optimizer."""
    defaults = yaml.safe_load((CONF / "model" / f"{rung}.yaml").read_text()).get("defaults") or []
    return {key.removeprefix("override /") for choice in defaults if isinstance(choice, dict) for key in choice}


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_changes_only_its_keys(rung: str) -> None:
    below = parent(rung)
    if below is None:
        assert rung == "bigram"
        return
    current, previous = values(rung), values(below)
    changed = {key for key in current.keys() | previous.keys() if current.get(key) != previous.get(key)}
    followers = {"data.block_size"} if "model.block_size" in changed else set()
    followers |= {"optimizer.lr"} if "rung_lr" in changed else set()
    followers |= {key for key in changed if key.split(".")[0] in overridden_groups(rung)}
    assert changed - followers <= set(own(rung))
    # And it changes every key that it lists, but for the first GPT, which lists all switches, still off.
    if rung != "embedding":
        assert set(own(rung)) <= changed


def test_the_rungs_inherit_in_one_line() -> None:
    below = {rung: parent(rung) for rung in RUNGS}
    ladder = [None]
    while len(ladder) <= len(RUNGS):
        ladder.append(next(rung for rung, parent in below.items() if parent == ladder[-1]))
    lower = ["bigram", "embedding", "average", "singlehead", "multihead", "feedforward"]
    upper = ["nanogpt", "rope", "rmsnorm", "swiglu", "gqa", "llama"]
    assert ladder[1:] == [*lower, "blocks", "residual", "layernorm", "dropout", "gpt", *upper]


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_states_its_name(rung: str) -> None:
    assert composed(f"model={rung}").rung == rung


@pytest.mark.parametrize("rung", sorted(published()))
def test_a_published_rung_has_its_published_recipe(rung: str) -> None:
    config = OmegaConf.to_container(composed(f"model={rung}", "run_dir=x"), resolve=True)
    config["choices"] = {"model": rung, "tokenizer": "char", "optimizer": "adamw", "scheduler": "constant"}
    assert recipe(config, SHAKESPEARE) == published()[rung]["recipe"]
    assert config["trainer"]["max_steps"] == published()[rung]["curve"][-1][0]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group: str, choice: str) -> None:
    try:
        cfg = composed(f"{group}={choice}", "run_dir=x")
    except MissingConfigException as missing:
        if str(missing.missing_cfg_file).startswith(("hydra/launcher/", "hydra/sweeper/")):
            pytest.skip(f"{group}={choice} needs an extra: pip install -e '.[slurm,ray,search]'")
        raise
    assert OmegaConf.to_container(cfg)


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_begins_with_a_description(path: Path) -> None:
    first = next(line for line in path.read_text().splitlines() if not line.startswith("# @package"))
    assert first.startswith("# ")


def test_short_names_of_keys_are_unambiguous() -> None:
    config = OmegaConf.to_container(composed("model=gpt", "run_dir=x"), resolve=True)
    names = [key.rpartition(".")[2] for key, _ in flatten(config) if key.rpartition(".")[0] in SHORT_GROUPS]
    shared = {name for name in names if names.count(name) > 1}
    assert shared <= {"_target_", "_partial_", "block_size"}  # the data's block_size is the model's
