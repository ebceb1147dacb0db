"""A trained net for others: weights as safetensors, what they mean as JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gptladder.system.errors import UserError
from gptladder.system.files import write_files

# What of a config concerns others; where the run wrote and what it showed does not.
TOLD = ("rung", "seed", "data", "tokenizer", "model", "optimizer", "scheduler", "trainer", "hardware")
WEIGHTS, MEANING = "model.safetensors", "model.json"


def export(record: dict[str, Any], weights: dict[str, Tensor], directory: Path) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into a directory; returns the path of the former.

    Args:
        record: what a checkpoint of ours says of itself: config, tokenizer, fingerprint of the text.
        weights: of the net, by name.
    """
    config = {key: value for key, value in record["config"].items() if key in TOLD}
    meaning = json.dumps({**record, "config": config}, indent=1) + "\n"
    write_files({MEANING: meaning.encode(), WEIGHTS: save(weights)}, directory)
    return directory / WEIGHTS


def read_exported(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and weights of an export; neither format can hold anything that runs.

    Raises:
        UserError: a file is missing, damaged, or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: name a file that scripts/export.py wrote")
    meaning = path.with_suffix(".json")
    try:
        record = json.loads(meaning.read_text(encoding="utf-8"))
        weights = load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{meaning} cannot be read ({error.strerror}): keep it beside {path.name}") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read with {meaning.name} ({error}): export the run again") from None
    if not isinstance(record, dict):
        raise UserError(f"{meaning} is foreign: it was not written by scripts/export.py")
    return record, weights
