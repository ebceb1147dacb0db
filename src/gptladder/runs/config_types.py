"""The type of each config key, read from the values that ``conf/`` gives it.

Hydra takes any value for any key: ``model.residual=no`` is a string, which counts as true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gptladder.runs.configs import CONF, flatten, values_of
from gptladder.system.commands import is_checkout
from gptladder.system.errors import UserError
from gptladder.system.records import parse_yaml

# Groups that a run cannot do without, and what to use instead of removing them.
REQUIRED_GROUPS = {
    "model": "choose a rung, such as model=bigram",
    "data": "choose data=shakespeare or data=text",
    "tokenizer": "choose tokenizer=char",
    "optimizer": "choose optimizer=adamw",
    "trainer": "set single keys of it",
    "hardware": "use hardware=cpu",
    "scheduler": "use scheduler=constant",
    "logger": "use logger=none",
    "callbacks": "remove single ones, such as ~callbacks.samples",
}

MAX_LR = 3e38  # float32 holds no more
LEARNING_RATES = ("rung_lr", "optimizer.lr")

# Keys that take more than ``conf/`` shows: Lightning's words for devices.
UNCHECKED = {"hardware.devices", "tags"}

# The numbers that a key takes: a lower and an upper bound, both included.
RANGES = {
    "trainer.gradient_clip_val": (1e-12, math.inf),
    "scheduler.min_lr_ratio": (0.0, 1.0),
    "optimizer.weight_decay": (0.0, 1e3),
    "optimizer.eps": (0.0, 1.0),
    "optimizer.ns_steps": (1, 100),
    "callbacks.early_stopping.patience": (1, math.inf),
    "callbacks.lr_find.n_steps": (20, 1e6),
    "callbacks.lr_find.min_lr": (1e-30, 1e6),
    "callbacks.lr_find.max_lr": (1e-30, 1e6),
    "hardware.threads": (1, 1024),
}

# Keys that a run cannot do without.
REQUIRED_KEYS = (
    "rung", "seed", "fast", "evaluate_first", "init_from", "unknown_characters", "run_dir", "model.block_size",
    "data.block_size", "data.batch_size", "data.estimate_batches", "data.stream", "data.split", "data.seed",
    "trainer.max_steps", "trainer.val_check_interval", "trainer.accumulate_grad_batches", "trainer.log_every_n_steps",
    "trainer.gradient_clip_val", "optimizer.lr", "hardware.precision", "hardware.threads",
)  # fmt: skip


def check_config(config: Mapping[str, Any], conf: Path = CONF) -> None:
    """Check that a config has its groups and keys, and the types and ranges of its values.

    A key has a type if ``conf/`` sets it to true or false, to numbers or to lists of numbers; constructors check the
    other keys.

    Args:
        config: a complete config as plain values, resolved or not.
        conf: the directory of the configs.

    Raises:
        UserError: names the key.
    """
    values = dict(flatten(config))
    _check_presence(config, values)
    _check_numbers(values)
    _check_types(values, _examples(conf))
    _check_names(config)
    _check_compile(values)
    _check_seed_and_rates(values)


def _check_presence(config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for group, remedy in REQUIRED_GROUPS.items():
        names_no_class = group in ("scheduler", "logger", "callbacks")
        node = config.get(group)
        if not isinstance(node, Mapping) or not ("_target_" in node or names_no_class):
            raise UserError(f"a run needs {group}: {remedy}")
    for key in REQUIRED_KEYS:
        if key not in values:
            raise UserError(f"a run needs {key}: leave out ~{key}, or set it")


def _check_types(values: Mapping[str, Any], examples: Mapping[str, Any]) -> None:
    """Compare every value with those of ``conf/``."""
    for key, value in values.items():
        known = examples.get(key, [])
        if (
            not known
            or key in ("seed", *LEARNING_RATES, *UNCHECKED)
            or _is_open(value)
            or any(_fits(value, example) for example in known)
        ):
            continue
        raise UserError(f"{key}={value} must be {_describe(known)}")


def _check_names(config: Mapping[str, Any]) -> None:
    """Check what names and describes a run: ``rung``, ``tags`` and ``notes``."""
    rung, tags, notes = config["rung"], config.get("tags") or [], config.get("notes")
    if not _is_open(rung) and not (isinstance(rung, str) and re.fullmatch(r"[\w+-][\w.+-]*", rung)):
        raise UserError(f"rung={rung} must be a name of letters, digits, dots and dashes")
    if not _is_open(tags) and not (isinstance(tags, list) and all(isinstance(tag, str | int) for tag in tags)):
        raise UserError(f"tags={tags} must be a list of words: tags=[{tags if isinstance(tags, str) else 'baseline'}]")
    if not isinstance(notes, str | int | float | None):
        raise UserError(f"notes={notes} must be a text")


def _check_compile(values: Mapping[str, Any]) -> None:
    compiled = values.get("hardware.compile", "auto")
    if not _is_open(compiled) and compiled != "auto" and type(compiled) is not bool:
        raise UserError(f"hardware.compile={compiled} must be auto, true or false")


def _check_seed_and_rates(values: Mapping[str, Any]) -> None:
    seed = values.get("seed")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise UserError(f"seed={seed} must be an integer in [0, 2**63)")
    for key in LEARNING_RATES:
        lr: Any = values.get(key, 1e-3 if key == "rung_lr" else None)
        if not _is_open(lr) and (type(lr) not in (int, float) or not 0 < lr <= MAX_LR):
            raise UserError(f"{key}={lr} must be a number above 0 and at most {MAX_LR:g}, such as 1e-3")


def _check_numbers(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        numbers = [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, float)]
        if not all(map(math.isfinite, numbers)):
            raise UserError(f"{key}={value} must be finite")
    for key, (low, high) in RANGES.items():
        value = values.get(key)
        if isinstance(value, bool) or (isinstance(value, int | float) and not low <= value <= high):
            raise UserError(f"{key}={value} must be a number from {low:g} to {high:g}")


def _fits(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example; a whole number is also a number with a fraction."""
    if isinstance(example, list):
        return isinstance(value, list) and len(value) == len(example) and all(map(_fits, value, example))
    if isinstance(example, float):
        return type(value) in (int, float)
    return type(value) is type(example)


def _describe(examples: list[Any]) -> str:
    kinds = []
    for example in examples:
        if isinstance(example, list):
            kinds.append(f"a list of {len(example)} numbers, such as {str(example).replace(' ', '')}")
        else:
            kinds.append({bool: "true or false", int: "an integer", float: "a number"}.get(type(example), "null"))
    if "a number" in kinds and "an integer" in kinds:
        kinds.remove("an integer")
    return " or ".join(sorted(set(kinds), key=lambda kind: (kind == "null", kinds.index(kind))))


@cache
def _examples(conf: Path) -> dict[str, list[Any]]:
    """The values of the keys that have a type: no text is among them, and not null alone."""
    return {
        key: values
        for key, values in config_values(conf).items()
        if not any(isinstance(value, str) for value in values) and any(value is not None for value in values)
    }


def forget_configs() -> None:
    """Read the configs again when they are needed next: in a notebook, people edit them between two runs."""
    config_values.cache_clear()
    _examples.cache_clear()


@cache
def config_values(conf: Path) -> dict[str, list[Any]]:
    """Every key of the config with the values that the files in ``conf`` give it."""
    values: dict[str, list[Any]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        group = path.parent.relative_to(conf)
        prefix = "" if "@package _global_" in text or group == Path() else f"{group.as_posix()}."
        for key, value in flatten(parse_yaml(text) or {}, prefix):
            if not key.endswith("defaults"):
                values.setdefault(key, []).extend([] if _is_open(value) else [_number(value)])
    return values


def foreign_targets(config: Any, *confs: Path) -> list[str]:
    """What a config instantiates and no file in ``confs`` does; ``resume=`` refuses it, because it may do anything."""
    named = [item for conf in confs or (CONF,) for item in config_values(conf).items()]
    known = {target for key, targets in named if key.rpartition(".")[2] == "_target_" for target in targets}
    return sorted({str(target) for target in values_of(config, "_target_")} - known)


def how_to_name_a_target() -> str:
    """What a user does so that ``resume=`` accepts a class of their own."""
    if is_checkout():
        return "name it in a file such as conf/callbacks/mine.yaml"
    return "name it in a file such as mine/callbacks/mine.yaml, and add --config-dir mine"


def _number(value: Any) -> Any:
    """PyYAML takes ``1e-3`` for text, OmegaConf for a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _is_open(value: Any) -> bool:
    """Whether a value is not known yet: an interpolation, or a value that must be given."""
    return isinstance(value, str) and (value == "???" or "${" in value)
