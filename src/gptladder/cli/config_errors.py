"""Messages for user errors, derived from the errors of Hydra and OmegaConf."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any, cast

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import ConfigKeyError, InterpolationResolutionError, MissingMandatoryValue

from gptladder.runs.config_types import config_values
from gptladder.runs.configs import sorted_by_inheritance
from gptladder.runs.naming import quote_override, split_override
from gptladder.runs.old_records import RENAMED_KEYS, RENAMED_VALUES
from gptladder.system.commands import install_command
from gptladder.system.errors import DISK_FULL, NOT_WRITABLE, UserError, first_line, os_error_message, suggest

# How the names of the choices of Hydra's plugins begin, and the extras that install them.
EXTRAS = {"submitit": "slurm", "ray": "ray", "optuna": "search"}

# Names that others give to our choices.
OTHER_NAMES = {("hardware", "cuda"): "gpu", ("hardware", "metal"): "mps", ("optimizer", "adam"): "adamw"}


# Hydra's error, as a pattern whose group is the key, and our message about that key.
COMPOSITION_MESSAGES = {
    r"Could not delete from config\. '([^']+)'": "~{0} cannot be removed: set it to null, or leave the override out",
    r"Multiple values for ([\w/]+)\.": "{0} has a choice already: write {0}=CHOICE without the +",
    r"An item is already at '([^']+)'": "{0} is in the config already: leave out the +",
    r"Ambiguous value for argument '(.+)'": (
        "{0} has several values: add -m to run each, or quote it, as in 'key=\"a,b\"'"
    ),
}


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
        key, value = split_override(override)
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
            return f"{os_error_message(link)}; a run is resumed with resume=DIR, and no data was lost"
        case OSError() if link is error and link.errno in NOT_WRITABLE:
            return os_error_message(link)
        case MissingConfigException(options=[*options]):
            return _unknown_choice(link, options)
        case MissingConfigException(missing_cfg_file=str(file)) if "/" in file:
            return f"{file.replace('/', '=')} does not exist: see --help for the choices"
        case OverrideParseException():
            return _invalid_override(str(link.override), conf)
        case MissingMandatoryValue() | InterpolationResolutionError():
            return f"{first_line(link)}: give {link.full_key or 'it'} a value"
        case ConfigKeyError() | AttributeError() if isinstance(error, ConfigCompositionException):
            return _unknown_key(error, conf)
        case ValueError() if "Config group override must be" in str(link):
            return f"{first_line(link)}: a group takes the name of one of its choices, as in model=bigram"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _composition_message(error: HydraException) -> str:
    for pattern, message in COMPOSITION_MESSAGES.items():
        found = re.search(pattern, str(error))
        if found:
            return message.format(found.group(1))
    return first_line(error) if error.__cause__ is None else f"{first_line(error)}: {first_line(error.__cause__)}"


def _invalid_override(override: str, conf: Path) -> str:
    key, equals, value = override.partition("=")
    if equals and value:
        quoted = shlex.quote(f'{key}="{value}"' if '"' not in value else f"{key}={quote_override(value)}")
        return f"{override} has characters that need quotes: write {quoted}"
    groups = [path.parent.name for path in conf.glob(f"*/{key}.yaml")]
    meant = f"did you mean {groups[0]}={key}?" if groups else "write KEY=VALUE, as in model=multihead"
    return f"{override} is not KEY=VALUE: {meant}"


def _unknown_choice(error: MissingConfigException, choices: list[str]) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    extra = next((extra for plugin, extra in EXTRAS.items() if choice.startswith(plugin)), None)
    if extra is not None and group in ("hydra/launcher", "hydra/sweeper"):
        return f"{group}={choice} is not installed: {install_command(extra)} installs it"
    if (group, choice) in OTHER_NAMES:
        return f"{group}={choice} does not exist: did you mean {OTHER_NAMES[group, choice]}?"
    return f"{group}={choice} does not exist: {suggest(choice, choices)}"


def _unknown_key(error: ConfigCompositionException, conf: Path) -> str:
    found = re.search(r"Could not (?:override|append to config|delete from config)\.? *'([^']+)'", str(error))
    if found is None:
        return _composition_message(error)
    key, values = found.group(1), config_values(conf)
    inside = re.search(rf"full_key: {re.escape(key)}\.(\S+)", str(error.__cause__))
    if inside:
        return f"{key} has no entry {inside.group(1)}: use ++{key}=... to add one"
    group, _, name = key.rpartition(".")
    if key in values:
        return f"{key} does not exist here: use {_choices_with(key, conf)}"
    arguments = {name for target in values.get(f"{group}._target_", []) for name in _arguments(target)}
    if name in arguments:
        return f"{key} is not in the config yet: add it with +{key}=..."
    known = {known for known in values if not re.search(r"^hydra|(^|\.)_\w+$", known)}
    parents = {name.rpartition(".")[0] for name in known} - {""}
    known |= parents | {each.name for each in conf.iterdir() if each.is_dir()}
    new = {f"+{group}.{argument}" for argument in arguments if f"{group}.{argument}" not in known}
    top = [name for name in known if "." not in name]
    return f"{key} is not a key of the config: {suggest(key, known | new, otherwise=top)}"


def _arguments(target: Any) -> Collection[str]:
    """The arguments of a class or function that a config names."""
    try:
        return inspect.signature(cast(Callable[..., Any], locate(str(target)))).parameters
    except (ErrorDuringImport, TypeError, ValueError):
        return ()


def _choices_with(key: str, conf: Path) -> str:
    """The choices of a group whose files set a key; of the rungs, the first one."""
    group, _, name = key.partition(".")
    word = f"{name.partition('.')[0]}:"
    files = [path for path in sorted_by_inheritance(conf / group) if word in path.read_text("utf-8")]
    if group == "model":
        return f"model={files[0].stem} or a rung above it"
    return " or ".join(f"{group}={path.stem}" for path in files)
