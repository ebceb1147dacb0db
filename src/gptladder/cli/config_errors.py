"""What the user got wrong, read from the errors of Hydra and OmegaConf."""

from __future__ import annotations

import errno
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
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, MissingMandatoryValue

from gptladder.runs.configs import flatten
from gptladder.system.errors import UserError, suggest

# What Hydra has of these comes with the extras of this package.
EXTRAS = {
    "hydra/launcher": "pip install -e '.[slurm]' or '.[ray]' brings it, launcher=joblib is there already",
    "hydra/sweeper": "pip install -e '.[search]' brings it",
}

# What a disk says that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What Python says of a call whose keys do not fit, as opposed to an error inside of it.
_ARGUMENT = re.compile(r"unexpected keyword argument|missing \d+ required")


def explain(error: BaseException, conf: Path) -> str | None:
    """One sentence with the remedy for a mistake of the user's; ``None`` for an error of ours."""
    for link in _chain(error):
        said = _explain(link, error, conf)
        if said is not None:
            return said
    if isinstance(error, HydraException) and not isinstance(error, InstantiationException):
        return _composition(error)
    return None


def _explain(link: BaseException, error: BaseException, conf: Path) -> str | None:
    """What one link in the chain behind an error says of a mistake."""
    match link:
        case UserError():
            return str(link)
        case OSError() if link.errno in FULL:
            return f"the disk takes no more ({_line(link)}): make room, then go on with resume=DIR; nothing is lost"
        case MissingConfigException(options=[*options]):
            return _unknown_choice(link, options)
        case OverrideParseException():
            return f"{link.override} is not key=value as Hydra reads it: quote what is special, as in 'key=\"a,b\"'"
        case MissingMandatoryValue() | InterpolationResolutionError():
            return f"{_line(link)}: give {link.full_key or 'it'} a value"
        case ConfigKeyError() | AttributeError() if isinstance(error, ConfigCompositionException):
            return _unknown_key(error, conf)
        case TypeError() if isinstance(error, InstantiationException) and _ARGUMENT.search(str(link)):
            return f"{_line(link)} (the key is in {_group(error)}): take it out, or put it back"
        case ValueError() if "Config group override must be" in str(link):
            return f"{_line(link)}: a group takes the name of one of its choices, as in model=bigram"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _group(error: InstantiationException) -> str:
    found = re.search(r"^full_key: (\w+)", str(error), re.MULTILINE)
    return found.group(1) if found else "a config"


def _composition(error: HydraException) -> str:
    ambiguous = re.search(r"Ambiguous value for argument '(.+)'", str(error))
    if ambiguous:
        return f"{ambiguous.group(1)} names several values: add -m to run each, or quote it, as in 'key=\"a,b\"'"
    return _line(error) if error.__cause__ is None else f"{_line(error)}: {_line(error.__cause__)}"


def _unknown_choice(error: MissingConfigException, choices: list[str]) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    if group in EXTRAS:
        return f"{group}={choice} is not installed: {EXTRAS[group]}"
    return f"{group}={choice} does not exist: {suggest(choice, choices)}"


def _unknown_key(error: ConfigCompositionException, conf: Path) -> str:
    found = re.search(r"Could not (?:override|append to config|delete from config)\.? *'([^']+)'", str(error))
    if found is None:
        return _composition(error)
    key, keys = found.group(1), _keys(conf)
    inside = re.search(rf"full_key: {re.escape(key)}\.(\S+)", str(error.__cause__))
    if inside:
        return f"{key} is there, without {inside.group(1)}: write ++{key}=... to add to it"
    if key in keys:
        return f"{key} is a key of larger rungs, not of this one: choose one that has it, such as model=gpt"
    close = suggest(key, keys, otherwise=[name for name in keys if "." not in name])
    return f"{key} is not a key of the config: {close}"


def _keys(conf: Path) -> list[str]:
    """Every key of the largest rung's config, by its dotted path, and every group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["model=gpt"]), resolve=False)
    keys = {key for key, _ in flatten(config)} | {group.name for group in conf.iterdir() if group.is_dir()}
    return sorted(keys)
