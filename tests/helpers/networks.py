"""Networks as tests use them."""

import torch
from hydra.utils import instantiate
from torch import nn

from gptladder.model import GPT
from helpers.configs import composed

VOCAB = 65
SMALL_GPT = ["model.n_layer=2", "model.n_embd=48", "model.block_size=32"]

# Options beyond the lecture.
MODERN = {
    "bias": False,
    "norm_affine": False,
    "activation": "relu2",
    "rope": True,
    "qk_norm": True,
    "n_prev_tokens": 2,
    "bigram_embedding": True,
    "init": "zero_residual",
}

# The architecture of Llama.
LLAMA = {
    "positions": False,
    "rope": True,
    "norm": "rmsnorm",
    "activation": "swiglu",
    "n_kv_head": 2,
    "bias": False,
    "init": "gpt2",
}

MUON = {"lr": 0.02, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.01, "adamw_lr": 0.01, "betas": (0.9, 0.99)}


def build_rung(rung: str, *overrides: str, seed: int = 1337) -> nn.Module:
    """A rung with the initial weights of a seed; ``gpt`` is scaled down, because no test depends on its size."""
    torch.manual_seed(seed)
    sizes = SMALL_GPT if rung == "gpt" else []
    net: nn.Module = instantiate(composed(f"model={rung}", *sizes, *overrides).model, vocab_size=VOCAB)
    return net


def build_gpt(**options: object) -> GPT:
    """The full small model with some options; equal options give equal initial weights."""
    torch.manual_seed(1337)
    return GPT(vocab_size=VOCAB, **options)
