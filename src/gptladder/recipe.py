"""The recipe: what of a run's config decides what it learns."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Where the run writes, how it is shown and what it runs on are not part of the recipe; nor is its length, so that
# a short run can be held against the start of a published curve.
TRAINER_KEYS = ("val_check_interval", "accumulate_grad_batches", "gradient_clip_val")


def recipe(config: dict[str, Any], corpus_sha256: str) -> dict[str, Any]:
    """The part of a resolved config that decides what is learnt, the text by its fingerprint."""
    data = {key: value for key, value in config["data"].items() if key not in ("_target_", "path", "seed")}
    return {
        "seed": config["seed"],
        "corpus_sha256": corpus_sha256,
        "tokenizer": config["tokenizer"],
        "data": data,
        "model": config["model"],
        "optimizer": config["optimizer"],
        "scheduler": config["scheduler"],
        "trainer": {key: config["trainer"][key] for key in TRAINER_KEYS},
    }


def config_hash(config: dict[str, Any], corpus_sha256: str) -> str:
    """Twelve hex digits that two runs share if they learn the same thing for the same number of steps."""
    decisive = recipe(config, corpus_sha256) | {
        "max_steps": config["trainer"]["max_steps"],
        "precision": config["hardware"]["precision"],
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
