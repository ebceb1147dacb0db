"""The shape of ``LlamaForCausalLM``: rotary positions, RMSNorm, a gated feed-forward, shared key and value heads.

``transformers`` stores queries, keys and values in three matrices, we in one. Both rotate channel ``i`` with
``i + D/2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptladder.runs.hugging_face import config_json, layout, shape
from gptladder.runs.hugging_face.layout import Weight
from gptladder.system.errors import UserError

CLASS_NAME = "LlamaForCausalLM"
MODEL_TYPE = "llama"
PREFIX = "model."
RUNG = "llama"

# Of older files: the frequencies of the rotation, which rope_theta gives.
BUFFERS = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"

# The arguments of a `GPT` that this shape fixes.
FIXED: dict[str, Any] = {
    **shape.FIXED,
    "positions": False,
    "scale": True,
    "norm": "rmsnorm",
    "activation": "swiglu",
    "rope": True,
}


def needed_changes(a: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a ``GPT`` that this shape would need to be others, with the values that it needs."""
    changes = shape.changes_to_fit(a, FIXED)
    if a["n_embd"] % a["n_head"]:  # which LlamaConfig refuses, also with a head_size
        changes["n_embd"] = a["n_embd"] - a["n_embd"] % a["n_head"] or a["n_head"]
    if a["expansion"] == 0:
        changes["expansion"] = 4
    return changes


def to_config(a: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` of a network of this shape, from the arguments of a ``GPT``."""
    has_bias = a["bias"] or a["qkv_bias"]
    return {
        "vocab_size": a["vocab_size"],
        "max_position_embeddings": a["block_size"],
        "hidden_size": a["n_embd"],
        "intermediate_size": _hidden_size(a),
        "num_hidden_layers": a["n_layer"],
        "num_attention_heads": a["n_head"],
        "num_key_value_heads": a["n_kv_head"] or a["n_head"],
        "head_dim": _head_size(a),
        "hidden_act": "silu",
        "rms_norm_eps": a["norm_eps"],
        "rope_theta": a["rope_theta"],  # as transformers 4 reads it
        "rope_parameters": {"rope_type": "default", "rope_theta": a["rope_theta"]},
        "attention_bias": has_bias,
        "mlp_bias": has_bias,
        "tie_word_embeddings": a["tie_weights"],
        "attention_dropout": a["dropout"],
    }


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a ``GPT`` from a ``config.json``; what it leaves out has the value of ``LlamaConfig``.

    Raises:
        UserError: it asks for something that our networks do not have.
    """
    config_json.check_absent(config, "sliding_window", "use_sliding_window", "pruned_heads")
    if any(kind != "full_attention" for kind in config.get("layer_types") or ()):
        raise UserError(
            "config.json has layer_types other than full_attention, which gpt-ladder's networks do not have"
        )
    config_json.read_choice(config, "hidden_act", "silu", {"silu": "swiglu", "swish": "swiglu"})
    n_embd = config_json.read_integer(config, "hidden_size")
    n_head = config_json.read_integer(config, "num_attention_heads")
    n_kv_head = config_json.read_integer(config, "num_key_value_heads", n_head)
    head_size = config_json.read_integer(config, "head_dim", max(1, n_embd // n_head))
    hidden = config_json.read_integer(config, "intermediate_size")
    bias = config_json.read_flag(config, "attention_bias", False)
    if bias != config_json.read_flag(config, "mlp_bias", False):
        raise UserError("config.json has attention_bias and mlp_bias that differ, and model.bias sets both")
    return {
        **FIXED,
        "vocab_size": config_json.read_integer(config, "vocab_size"),
        "block_size": config_json.read_integer(config, "max_position_embeddings"),
        "n_embd": n_embd,
        "n_layer": config_json.read_integer(config, "num_hidden_layers"),
        "n_head": n_head,
        "head_size": None if head_size * n_head == n_embd else head_size,
        "n_kv_head": None if n_kv_head == n_head else n_kv_head,
        "expansion": 4,
        "hidden_size": None if hidden == round(4 * n_embd * 2 / 3) else hidden,
        "bias": bias,
        "qkv_bias": bias,
        "head_bias": False if bias else None,
        "norm_affine": True,
        "norm_eps": config_json.read_number(config, "rms_norm_eps", 1e-6),
        "rope_theta": _rope_theta(config),
        "tie_weights": config_json.read_flag(config, "tie_word_embeddings", False),
    }


def weights(a: Mapping[str, Any]) -> list[Weight]:
    """Where the weights of a network of this shape lie."""
    width, hidden, bias = a["n_embd"], _hidden_size(a), a["bias"] or a["qkv_bias"]
    n_q = a["n_head"] * _head_size(a)
    n_kv = (a["n_kv_head"] or a["n_head"]) * _head_size(a)
    found = [
        layout.embedding("embedding.token", "model.embed_tokens", a["vocab_size"], width),
        *layout.norm("final_norm", "model.norm", width, bias=False),
    ]
    for i in range(a["n_layer"]):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        qkv = {f"{attention}.q_proj": n_q, f"{attention}.k_proj": n_kv, f"{attention}.v_proj": n_kv}
        linears: tuple[tuple[str, str | dict[str, int], int, int], ...] = (
            ("attention.qkv", qkv, width, n_q + 2 * n_kv),
            ("attention.projection", f"{attention}.o_proj", n_q, width),
            ("mlp.0.gate", f"{mlp}.gate_proj", width, hidden),
            ("mlp.0.up", f"{mlp}.up_proj", width, hidden),
            ("mlp.1", f"{mlp}.down_proj", hidden, width),
        )
        found += layout.norm(f"{ours}.norm1", f"{theirs}.input_layernorm", width, bias=False)
        found += layout.norm(f"{ours}.norm2", f"{theirs}.post_attention_layernorm", width, bias=False)
        for name, their_names, n_in, n_out in linears:
            found += layout.linear(f"{ours}.{name}", their_names, n_in, n_out, bias=bias)
    if not a["tie_weights"]:
        found += layout.linear("lm_head", "lm_head", width, a["vocab_size"], bias=False)
    return found


def _head_size(a: Mapping[str, Any]) -> int:
    return int(a["head_size"] or a["n_embd"] // a["n_head"])


def _hidden_size(a: Mapping[str, Any]) -> int:
    return int(a["hidden_size"] or round(a["expansion"] * a["n_embd"] * 2 / 3))


def _rope_theta(config: Mapping[str, Any]) -> float:
    """The base of the rotation, where ``transformers`` 5 writes it, or 4."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key) or {}
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            raise UserError(f"config.json has {key}={rope}, which gpt-ladder's networks do not have")
        if {**config, **rope}.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise UserError("config.json has partial_rotary_factor, and gpt-ladder rotates all channels of a head")
    return config_json.read_number({**config, **(config.get("rope_parameters") or {})}, "rope_theta", 10_000.0)
