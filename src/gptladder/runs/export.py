"""Exports of a trained network: weights as safetensors, and its config and tokenizer as JSON next to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gptladder.system.errors import UserError
from gptladder.system.files import write_files
from gptladder.system.records import read_json

# Not exported: where the run wrote, and what it showed.
EXPORTED_KEYS = ("rung", "seed", "data", "tokenizer", "model", "optimizer", "scheduler", "trainer", "hardware")
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "model.json"


def export(metadata: dict[str, Any], weights: dict[str, Tensor], directory: Path) -> Path:
    """Write ``model.safetensors`` and ``model.json`` into a directory; returns the path of the former.

    Args:
        metadata: of a checkpoint: config, arguments of the network, tokenizer, hash of the text.
        weights: of the network, by name.

    Raises:
        UserError: a weight is not finite, or a file cannot be written.
    """
    not_finite = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if not_finite:
        raise UserError(f"the weights {not_finite[0]} are not all finite: export another checkpoint, such as best.ckpt")
    config = {key: value for key, value in metadata["config"].items() if key in EXPORTED_KEYS}
    text = json.dumps({**metadata, "config": config}, indent=1) + "\n"
    write_files({CONFIG_FILE: text.encode(), WEIGHTS_FILE: save(weights)}, directory)
    return directory / WEIGHTS_FILE


def read_exported(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and weights of an export; neither file format can contain code.

    Raises:
        UserError: a file is missing, damaged, or not an export.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: name a file that export wrote")
    config = path.with_suffix(".json")
    if not config.exists() and path.with_name("config.json").exists():
        raise UserError(f"{path} is of Hugging Face's transformers: name the run itself, or an export without --format")
    try:
        metadata = read_json(config)
        weights = load(path.read_bytes())
    except OSError as error:
        raise UserError(f"{config} cannot be read ({error.strerror}): keep it next to {path.name}") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} cannot be read with {config.name} ({error}): export the run again") from None
    if not isinstance(metadata, dict) or not {"config", "tokenizer", "corpus_sha256"} <= metadata.keys():
        raise UserError(f"{config} was not written by export: export the run again")
    return metadata, weights
