"""What a run can start from: the weights, the tokenizer and the config of another one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from gptladder.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Pretrained:
    """Weights by the names of our networks, in fp32, with their tokenizer.

    Attributes:
        config: its groups ``model`` and ``tokenizer`` as a run would record them.
    """

    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    config: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights and the tokenizer."""
        digest = hashlib.sha256(json.dumps(self.tokenizer.state_dict(), sort_keys=True).encode())
        for name, tensor in sorted(self.weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def with_context(self, block_size: int) -> Self:
        """The same with a shorter context, of a network whose weights do not depend on it but for its positions."""
        model = self.config["model"]
        if type(block_size) is not int or not 1 <= block_size < model["block_size"]:
            return self
        weights = dict(self.weights)
        if "embedding.position.weight" in weights:
            weights["embedding.position.weight"] = weights["embedding.position.weight"][:block_size]
        return replace(self, weights=weights, config={**self.config, "model": {**model, "block_size": block_size}})
