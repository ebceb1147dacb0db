"""Messages for user errors, derived from the errors of Hydra and OmegaConf."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

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
from gptladder.runs.old_records import RENAMED_KEYS, RENAMED_VALUES
from gptladder.system.errors import UserError, suggest

# Groups of Hydra's plugins, and how to install them.
EXTRAS = {
    "hydra/launcher": "pip install -e '.[slurm]' or '.[ray]' installs it, launcher=joblib needs nothing more",
    "hydra/sweeper": "pip install -e '.[search]' installs it",
}

# What a full disk, or a quota, raises.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Python's message for a call with wrong arguments, as opposed to an error inside the function.
_WRONG_ARGUMENT = re.compile(r"unexpected keyword argument|missing \d+ required")


def error_message(error: BaseException, conf: Path) -> str | None:
    """One sentence with the remedy for a user error; ``None`` for any other error."""
    for link in _chain(error):
        message = _link_message(link, error, conf)
        if message is not None:
            return message
    if isinstance(error, HydraException) and not isinstance(error, InstantiationException):
        return _composition_message(error)
    return None


def check_renamed(overrides: Iterable[str]) -> None:
    """Raise a ``UserError`` with today's name if an override uses a key or value that was renamed."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        old = next((old for old in RENAMED_KEYS if key == old or key.startswith(f"{old}.")), None)
        if old is not None:
            raise UserError(f"{old} was renamed: use {RENAMED_KEYS[old]}")
        for word in re.split(r"[,\s]+", value):
            if (key, word) in RENAMED_VALUES:
                raise UserError(f"{key}={word} was renamed: use {key}={RENAMED_VALUES[key, word]}")


def _link_message(link: BaseException, error: BaseException, conf: Path) -> str | None:
    """The message for one exception in the chain behind an error."""
    match link:
        case UserError():
            return str(link)
        case OSError() if link.errno in DISK_FULL:
            return (
                f"no space left on device ({_first_line(link)}): "
                "free some space, then resume with resume=DIR; no data was lost"
            )
        case MissingConfigException(options=[*options]):
            return _unknown_choice(link, options)
        case OverrideParseException():
            return f"{link.override} is not a valid override: quote special characters, as in 'key=\"a,b\"'"
        case MissingMandatoryValue() | InterpolationResolutionError():
            return f"{_first_line(link)}: give {link.full_key or 'it'} a value"
        case ConfigKeyError() | AttributeError() if isinstance(error, ConfigCompositionException):
            return _unknown_key(error, conf)
        case TypeError() if isinstance(error, InstantiationException) and _WRONG_ARGUMENT.search(str(link)):
            return f"{_first_line(link)} (the key is in {_group(error)}): remove it, or add what is missing"
        case ValueError() if "Config group override must be" in str(link):
            return f"{_first_line(link)}: a group takes the name of one of its choices, as in model=bigram"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _group(error: InstantiationException) -> str:
    found = re.search(r"^full_key: (\w+)", str(error), re.MULTILINE)
    return found.group(1) if found else "a config"


def _composition_message(error: HydraException) -> str:
    ambiguous = re.search(r"Ambiguous value for argument '(.+)'", str(error))
    if ambiguous:
        return f"{ambiguous.group(1)} has several values: add -m to run each, or quote it, as in 'key=\"a,b\"'"
    return _first_line(error) if error.__cause__ is None else f"{_first_line(error)}: {_first_line(error.__cause__)}"


def _unknown_choice(error: MissingConfigException, choices: list[str]) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    if group in EXTRAS:
        return f"{group}={choice} is not installed: {EXTRAS[group]}"
    return f"{group}={choice} does not exist: {suggest(choice, choices)}"


def _unknown_key(error: ConfigCompositionException, conf: Path) -> str:
    found = re.search(r"Could not (?:override|append to config|delete from config)\.? *'([^']+)'", str(error))
    if found is None:
        return _composition_message(error)
    key, keys = found.group(1), _keys(conf)
    inside = re.search(rf"full_key: {re.escape(key)}\.(\S+)", str(error.__cause__))
    if inside:
        return f"{key} has no entry {inside.group(1)}: use ++{key}=... to add one"
    if key in keys:
        return f"{key} does not exist for this rung: use a GPT rung, such as model=multihead or model=gpt"
    close = suggest(key, keys, otherwise=[name for name in keys if "." not in name])
    return f"{key} is not a key of the config: {close}"


def _keys(conf: Path) -> list[str]:
    """Every key of the largest rung's config, by its dotted path, and every group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        config = cast(dict[str, Any], OmegaConf.to_container(compose("train", ["model=gpt"]), resolve=False))
    keys = {key for key, _ in flatten(config)} | {group.name for group in conf.iterdir() if group.is_dir()}
    return sorted(keys)
