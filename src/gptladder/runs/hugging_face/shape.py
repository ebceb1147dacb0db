"""What both shapes, GPT-2's and Llama's, ask of a ``GPT``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The arguments of a `GPT` that both fix.
FIXED: dict[str, Any] = {
    "attention": "softmax",
    "projection": True,
    "residual": True,
    "norm_position": "pre",
    "qk_norm": False,
    "n_prev_tokens": 0,
    "bigram_embedding": False,
}


def changes_to_fit(a: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a shape needs to be others, with the values that it needs.

    Args:
        a: the arguments of a ``GPT``.
        fixed: those that the shape fixes, with their values.
    """
    changes = {key: value for key, value in fixed.items() if a[key] != value}
    if a["head_bias"] or (a["head_bias"] is None and a["bias"]):
        changes["head_bias"] = False
    if a["n_layer"] < 1:
        changes["n_layer"] = 1
    return changes
