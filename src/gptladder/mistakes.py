"""What the user got wrong, read from the errors of Hydra and OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from gptladder.errors import UserError, nearest
from gptladder.naming import leaves


def explain(error: BaseException, conf: Path) -> str | None:
    """One sentence with the remedy for a mistake of the user's; ``None`` for an error of ours."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    for link in chain:
        if isinstance(link, MissingConfigException) and link.options is not None:
            return _unknown_choice(link)
        if isinstance(link, OverrideParseException):
            return f"{link.override} is not key=value as Hydra reads it: quote what is special, as in 'key=\"a,b\"'"
        if isinstance(link, ConfigKeyError | AttributeError) and isinstance(error, ConfigCompositionException):
            return _unknown_key(error, conf)
        if isinstance(link, TypeError) and isinstance(error, InstantiationException):
            return str(link)
    if isinstance(error, HydraException | OmegaConfBaseException) and not isinstance(error, InstantiationException):
        return str(error).splitlines()[0]
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    return f"{group}={choice} does not exist: {nearest(choice, error.options or [])}"


def _unknown_key(error: ConfigCompositionException, conf: Path) -> str:
    found = re.search(r"Could not (?:override|append to config|delete from config)\.? *'([^']+)'", str(error))
    if found is None:
        return str(error).splitlines()[0]
    key = found.group(1)
    return f"{key} is not a key of the config: {nearest(key, _keys(conf))}"


def _keys(conf: Path) -> list[str]:
    """Every key of the largest rung's config, by its dotted path, and every group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["model=gpt"]), resolve=False)
    return [key for key, _ in leaves(config)] + [group.name for group in conf.iterdir() if group.is_dir()]
