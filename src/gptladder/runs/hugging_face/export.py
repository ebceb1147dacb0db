"""Exports that ``transformers`` loads: config, weights and tokenizer of a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from gptladder.model.gpt import describe_net
from gptladder.runs.checkpoint import Trained
from gptladder.runs.hugging_face.architectures import architecture_of_network
from gptladder.runs.hugging_face.layout import to_transformers
from gptladder.runs.hugging_face.safetensors_files import INDEX_FILE, WEIGHTS_FILE
from gptladder.runs.hugging_face.tokenizer_json import describe_tokenizer
from gptladder.system.errors import UserError
from gptladder.system.files import write_files

CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "config.json", "tokenizer.json", "tokenizer_config.json"

# Files of another model, which transformers would read as well.
OTHER_FILES = (
    INDEX_FILE, "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja", "adapter_config.json",
)  # fmt: skip


def export_to_hugging_face(trained: Trained, directory: Path) -> str:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer into a directory.

    Returns:
        The class of ``transformers`` whose shape the network has.

    Raises:
        UserError: it has no such shape, a file cannot be written, or the directory holds another model.
    """
    network = describe_net(trained.net)
    assert network is not None
    architecture = architecture_of_network(network.pop("kind"), network)
    tokenizer = describe_tokenizer(trained.tokenizer)
    other = next((name for name in OTHER_FILES if (directory / name).exists()), None)
    if other is not None:
        raise UserError(f"{directory} holds another model ({other}): name another directory with --out")
    config = {
        "architectures": [architecture.CLASS_NAME],
        "model_type": architecture.MODEL_TYPE,
        "dtype": "float32",
        **architecture.to_config(network),
        # No text begins or ends with a token of its own, and generation stops at none.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # with nothing that transformers adds for a kind of model
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": trained.block_size,
    }
    weights = to_transformers(trained.net.state_dict(), architecture.weights(network))
    files = {
        CONFIG_FILE: _to_json(config),
        TOKENIZER_FILE: _to_json(tokenizer),
        TOKENIZER_CONFIG_FILE: _to_json(tokenizer_config),
        WEIGHTS_FILE: save(weights, metadata={"format": "pt"}),
    }
    write_files(files, directory)
    return architecture.CLASS_NAME


def _to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
