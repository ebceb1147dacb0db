"""The recipe: what of a run's config decides what it learns."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gptladder.runs.naming import flatten

# Where the run writes, how it is shown and what it runs on are not part of the recipe; nor is its length, so that
# a short run can be held against the start of a published curve.
TRAINER_KEYS = ("val_check_interval", "accumulate_grad_batches", "gradient_clip_val")


def recipe(config: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """The part of a resolved config that decides what is learnt; text and start by their fingerprints."""
    data = {key: value for key, value in config["data"].items() if key not in ("_target_", "path", "seed", "cache")}
    start = {"init_from": config["init_from"]["sha256"]} if config.get("init_from") else {}
    if not config.get("evaluate_first", True):  # an evaluation draws from the published stream
        start["evaluate_first"] = False
    return {
        **start,
        "seed": config["seed"],
        "corpus_sha256": corpus_sha256,
        "tokenizer": config["tokenizer"],
        "data": data,
        "model": config["model"],
        "optimizer": config["optimizer"],
        "scheduler": config["scheduler"],
        "trainer": {key: config["trainer"][key] for key in TRAINER_KEYS},
    }


def identity(config: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """The recipe, and what else decides the very bits of a result: its length and precision."""
    length = {"max_steps": config["trainer"]["max_steps"], "precision": config["hardware"]["precision"]}
    return recipe(config, corpus_sha256) | length


def config_hash(config: dict[str, Any], corpus_sha256: str) -> str:
    """Twelve hex digits that two runs share if they learn the same thing for the same number of steps."""
    return hashlib.sha256(json.dumps(identity(config, corpus_sha256), sort_keys=True).encode()).hexdigest()[:12]


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of the record in a checkpoint is no longer so: text, tokenizer, split, protocol, architecture, all.

    Args:
        then, now: the records of two learners: ``config``, ``tokenizer`` and ``corpus_sha256``.
    """
    before, after = (
        dict(flatten({**identity(record["config"], record["corpus_sha256"]), "tokens": record["tokenizer"]}))
        for record in (then, now)
    )
    keys = sorted(before.keys() | after.keys())
    return [
        f"{key} was {_short(before.get(key))} and is {_short(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:12]}…"
