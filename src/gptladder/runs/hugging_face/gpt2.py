"""The shape of ``GPT2LMHeadModel``: learned positions, LayerNorm, one feed-forward of two linears, tied weights.

``transformers`` stores the weights of its linears transposed, and queries, keys and values in one matrix, as we do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptladder.runs.hugging_face import config_json, layout, shape
from gptladder.runs.hugging_face.layout import Weight

CLASS_NAME = "GPT2LMHeadModel"
MODEL_TYPE = "gpt2"
PREFIX = "transformer."  # of all tensors but the head; GPT-2's own file leaves it out
RUNG = "nanogpt"  # the rung whose recipe a finetuned model gets where the user names none

# Tensors of older files that are no weights: the causal mask, and the value that it wrote.
BUFFERS = r"h\.\d+\.attn\.(bias|masked_bias)"

# The activations of a config, and ours; the tanh approximation of GELU has two names.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}

# The arguments of a `GPT` that this shape fixes.
FIXED: dict[str, Any] = {**shape.FIXED, "positions": True, "norm": "layernorm", "rope": False}


def needed_changes(a: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a ``GPT`` that this shape would need to be others, with the values that it needs."""
    changes = shape.changes_to_fit(a, FIXED)
    if a["head_size"] not in (None, a["n_embd"] / a["n_head"]):
        changes["head_size"] = "null"
    if a["n_kv_head"] not in (None, a["n_head"]):
        changes["n_kv_head"] = "null"
    if a["activation"] not in ACTIVATIONS.values():
        changes["activation"] = "gelu"
    if a["expansion"] == 0 or (a["expansion"] == 1 and a["hidden_size"] is None):
        changes["expansion"] = 4
    return changes


def to_config(a: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a network of this shape, from the arguments of a ``GPT``."""
    return {
        "vocab_size": a["vocab_size"],
        "n_positions": a["block_size"],
        "n_embd": a["n_embd"],
        "n_layer": a["n_layer"],
        "n_head": a["n_head"],
        "n_inner": _hidden_size(a),
        "activation_function": next(name for name, ours in ACTIVATIONS.items() if ours == a["activation"]),
        "layer_norm_epsilon": a["norm_eps"],
        "scale_attn_weights": a["scale"],
        "tie_word_embeddings": a["tie_weights"],
        "attn_pdrop": a["dropout"],
        "resid_pdrop": a["dropout"],
        "embd_pdrop": 0.0,
    }


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a ``GPT`` from a ``config.json``; what it leaves out has the value of ``GPT2Config``.

    Raises:
        UserError: it asks for something that our networks do not have.
    """
    config_json.check_absent(config, "scale_attn_by_inverse_layer_idx", "add_cross_attention", "pruned_heads")
    n_embd = config_json.read_integer(config, "n_embd")
    n_inner = config_json.read_integer(config, "n_inner", 4 * n_embd)
    return {
        **FIXED,
        "vocab_size": config_json.read_integer(config, "vocab_size"),
        "block_size": config_json.read_integer(config, "n_positions"),
        "n_embd": n_embd,
        "n_layer": config_json.read_integer(config, "n_layer"),
        "n_head": config_json.read_integer(config, "n_head"),
        "head_size": None,
        "n_kv_head": None,
        "scale": config_json.read_flag(config, "scale_attn_weights", True),
        "expansion": 4,
        "hidden_size": None if n_inner == 4 * n_embd else n_inner,
        "activation": config_json.read_choice(config, "activation_function", "gelu_new", ACTIVATIONS),
        "bias": True,
        "qkv_bias": True,
        "head_bias": False,
        "norm_affine": True,
        "norm_eps": config_json.read_number(config, "layer_norm_epsilon", 1e-5),
        "tie_weights": config_json.read_flag(config, "tie_word_embeddings", True),
    }


def weights(a: Mapping[str, Any]) -> list[Weight]:
    """Where the weights of a network of this shape lie."""
    width, hidden = a["n_embd"], _hidden_size(a)
    found = [
        layout.embedding("embedding.token", "transformer.wte", a["vocab_size"], width),
        layout.embedding("embedding.position", "transformer.wpe", a["block_size"], width),
        *layout.norm("final_norm", "transformer.ln_f", width, bias=True),
    ]
    for i in range(a["n_layer"]):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        linears = (
            ("attention.qkv", "attn.c_attn", width, 3 * width),
            ("attention.projection", "attn.c_proj", width, width),
            ("mlp.0", "mlp.c_fc", width, hidden),
            ("mlp.2", "mlp.c_proj", hidden, width),
        )
        found += layout.norm(f"{ours}.norm1", f"{theirs}.ln_1", width, bias=True)
        found += layout.norm(f"{ours}.norm2", f"{theirs}.ln_2", width, bias=True)
        for name, their_name, n_in, n_out in linears:
            found += layout.linear(f"{ours}.{name}", f"{theirs}.{their_name}", n_in, n_out, bias=True, transposed=True)
    if not a["tie_weights"]:
        found += layout.linear("lm_head", "lm_head", width, a["vocab_size"], bias=False)
    return found


def _hidden_size(a: Mapping[str, Any]) -> int:
    return int(a["hidden_size"] or a["expansion"] * a["n_embd"])
