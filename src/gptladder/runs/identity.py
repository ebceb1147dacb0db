"""The identity of a run: what of its config decides what it learns.

An identity consists of the choices of config groups and of their values, never of import paths: moving or renaming a
class changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gptladder.runs.config_types import foreign_targets
from gptladder.runs.configs import OUTPUT_KEYS, flatten

# The groups whose choice says what is built from their values.
CHOICES = ("tokenizer", "optimizer", "scheduler")

# The groups that may hold classes of the user's own which change what is learned.
OWN_GROUPS = ("tokenizer", "data", "model", "optimizer", "scheduler", "callbacks")

# Output, display and hardware are not part of the recipe; nor is the length, so that a short run can be compared with
# the start of a published curve.
TRAINER_KEYS = ("val_check_interval", "accumulate_grad_batches", "gradient_clip_val")

# Keys of a model that a config may leave out, with the value that it then has.
MODEL_DEFAULTS = {
    "bias": True,
    "qkv_bias": False,
    "head_bias": None,
    "norm": "layernorm",
    "norm_eps": 1e-5,
    "norm_affine": True,
    "activation": "relu",
    "hidden_size": None,
    "tie_weights": False,
    "rope": False,
    "rope_theta": 10_000.0,
    "n_kv_head": None,
    "qk_norm": False,
    "sdpa": True,
    "n_prev_tokens": 0,
    "bigram_embedding": False,
    "init": "torch_default",
}


def recipe(config: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """The part of a config that decides what is learned at each step.

    Args:
        config: resolved, with the choices of its groups in ``config["choices"]``.
        corpus_sha256: of the text.
    """
    start = {"init_from": config["init_from"]["sha256"]} if config.get("init_from") else {}
    if not config.get("evaluate_first", True):  # an evaluation draws from the published stream
        start["evaluate_first"] = False
    if config["trainer"].get("gradient_clip_algorithm") not in (None, "norm"):
        start["gradient_clip_algorithm"] = config["trainer"]["gradient_clip_algorithm"]
    return {
        **start,
        "seed": config["seed"],
        "corpus_sha256": corpus_sha256,
        "choices": {group: config["choices"].get(group) for group in CHOICES},
        "tokenizer": _values(config["tokenizer"]),
        "data": _values(config["data"], without=("path", "seed", "cache")),
        "model": {
            key: value
            for key, value in _values(config["model"]).items()
            if key not in MODEL_DEFAULTS or value != MODEL_DEFAULTS[key]
        },
        "optimizer": _values(config["optimizer"]),
        "scheduler": _values(config["scheduler"]),
        "trainer": {key: config["trainer"][key] for key in TRAINER_KEYS},
    }


def identity(config: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """The recipe, and what else decides the bits of a result.

    That is the model's file, the length, the precision, and classes of the user's own, which may do anything.
    """
    own = {group: _parts_with(config.get(group), foreign_targets(config.get(group))) for group in OWN_GROUPS}
    return {
        **recipe(config, corpus_sha256),
        **{f"own_{group}": _without_places(parts) for group, parts in own.items() if parts},
        "model_choice": config["choices"].get("model"),
        "max_steps": config["trainer"]["max_steps"],
        "precision": config["hardware"]["precision"],
    }


def config_hash(config: dict[str, Any], corpus_sha256: str) -> str:
    """Twelve hex digits that two runs share if they learn the same for the same number of steps."""
    return hashlib.sha256(json.dumps(identity(config, corpus_sha256), sort_keys=True).encode()).hexdigest()[:12]


def diff_identity(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """What changed since a checkpoint was saved: text, tokenizer, split, protocol or architecture.

    Args:
        recorded, current: metadata of two checkpoints: ``config``, ``tokenizer`` and ``corpus_sha256``.
    """
    before, after = (
        dict(flatten({**identity(record["config"], record["corpus_sha256"]), "tokens": record["tokenizer"]}))
        for record in (recorded, current)
    )
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key} was {_short(before.get(key))} and is {_short(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _parts_with(node: Any, targets: list[str]) -> Any:
    """The parts of a node that instantiate one of some targets."""
    if not isinstance(node, dict) or not targets:
        return None
    if node.get("_target_") in targets:
        return node
    return {key: found for key, part in node.items() if (found := _parts_with(part, targets))}


def _without_places(node: Any) -> Any:
    """The same without where it writes: a run may be moved."""
    if not isinstance(node, dict):
        return node
    return {
        key: _without_places(value)
        for key, value in node.items()
        if key not in OUTPUT_KEYS and not (isinstance(value, str) and Path(value).is_absolute())
    }


def _values(group: dict[str, Any] | None, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in (group or {}).items() if not key.startswith("_") and key not in without}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:12]}…"
