"""What ``init_from`` takes from the run or model that it names where the command says nothing else.

That is its rung, or its architecture, and its tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from gptladder.runs.configs import load_config, recorded_choices
from gptladder.runs.hugging_face.scheme import is_hugging_face
from gptladder.runs.naming import quote_override
from gptladder.system.errors import UserError


def inherited_overrides(overrides: list[Override], compose: Callable[[list[str]], DictConfig]) -> list[str]:
    """The overrides that choose the rung and the tokenizer of the run, or of the model, that ``init_from`` names.

    Args:
        overrides: of the command line.
        compose: composes a config from overrides.

    Returns:
        An empty list without ``init_from``, or for a run that cannot be read, which is refused later.

    Raises:
        UserError: a directory of Hugging Face cannot be loaded.
    """
    given = {override.key_or_group: override for override in overrides}
    source = given.get("init_from")
    if source is None or source.is_sweep_override() or source.value() is None:
        return []
    name = str(source.value()).strip("'\"")
    inherited: list[str] = []
    if is_hugging_face(name):
        recorded = _read_model(name, given.get("tokenizer"))
        if not {"rung", "model"} & given.keys():  # the recipe of a rung, but not its sizes
            inherited.append(f"rung={recorded['rung']}")
    else:
        recorded = _read(Path(name))
    for group in ("model", "tokenizer"):
        choice = recorded.get("choices", {}).get(group)
        if group in given or choice is None:
            continue
        chosen = [*inherited, f"{group}={choice}"]
        default = OmegaConf.to_container(compose(chosen)[group])
        assert isinstance(default, dict)
        different = {key: value for key, value in recorded[group].items() if default.get(key) != value}
        inherited = [
            *chosen,
            *(f"++{group}.{key}={_as_override(value)}" for key, value in different.items() if not key.startswith("_")),
        ]
    return inherited


def _read_model(name: str, tokenizer: Override | None) -> dict[str, Any]:
    """The config of a directory of Hugging Face, with the tokenizer that the user chose, if it is one."""
    from gptladder.runs.hugging_face.load import describe_directory  # imports torch

    choice = None if tokenizer is None or tokenizer.is_sweep_override() else str(tokenizer.value())
    return describe_directory(name, tokenizer=choice)


def _read(path: Path) -> dict[str, Any]:
    """The config of a run directory, a checkpoint or an export, with the choices of its groups."""
    if path.is_dir():
        try:
            return {**load_config(path / ".hydra" / "config.yaml"), "choices": recorded_choices(path)}
        except (OSError, ValueError):
            return {}
    from gptladder.runs.checkpoint import load_trained  # imports torch

    try:
        return load_trained(path).config
    except UserError:
        return {}


def _as_override(value: Any) -> str:
    return quote_override(value) if isinstance(value, str) else "null" if value is None else str(value).lower()
