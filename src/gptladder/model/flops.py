"""The floating-point operations of a training step, counted from the architecture."""

from __future__ import annotations

from torch import nn

from gptladder.model.attention import CausalSelfAttention

# Where the forward pass computes one product, the backward pass computes two gradients: of the weights and the input.
PASSES = 3


def training_flops_per_token(net: nn.Module, n_time: int) -> int:
    """The matrix products of one token, forward and backward; 0 for a network without any, such as ``Bigram``.

    A linear of ``n`` weights takes ``2 * n`` operations per token, a multiplication and an addition each. A layer of
    attention takes ``2 * H * D * T`` for the scores and as many for their sums of values. Three times their sum is the
    forward and the backward pass: ``6 * N + 12 * L * H * D * T`` with the ``N`` weights of ``L`` layers and the head.

    This is the count of Chowdhery et al. 2022, "PaLM", appendix B, and of nanoGPT's ``estimate_mfu``. As there, nothing
    that is computed twice counts, the future that a causal mask hides counts, and what is no matrix product
    (embeddings, biases, normalizations, softmax, the mean of ``UniformAttention``) does not.

    Args:
        net: a ``GPT`` or ``Bigram``.
        n_time: ``T``, the tokens of a window.
    """
    linears = sum(2 * module.weight.numel() for module in net.modules() if isinstance(module, nn.Linear))
    attention = sum(
        4 * module.n_head * module.head_size * n_time
        for module in net.modules()
        if isinstance(module, CausalSelfAttention)
    )
    return PASSES * (linears + attention)
