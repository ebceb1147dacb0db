"""Self-attention: its two implementations, its dropout, its weights, and their initialization."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gptladder.model.attention import SHORT_CONTEXT, CausalSelfAttention, UniformAttention, attention_weights
from gptladder.model.rotary import RotaryEmbedding
from helpers.configs import RUNGS
from helpers.networks import VOCAB, build_rung


def build_attention(**options: Any) -> CausalSelfAttention:
    """Attention with the same weights at each call."""
    torch.manual_seed(0)
    return CausalSelfAttention(
        32,
        **{
            **{"block_size": 64, "n_head": 4, "head_size": 8, "scale": True, "dropout": 0.0},
            **{"projection": False, "bias": True},
            **options,
        },
    )


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("n_head", "head_size", "length"), [(1, 16, 8), (4, 8, 8), (4, 8, 3), (6, 64, 64)])
def test_sdpa_equals_the_explicit_sum(scale: bool, n_head: int, head_size: int, length: int) -> None:
    sizes = {"n_head": n_head, "head_size": head_size, "scale": scale}
    explicit, sdpa = (build_attention(**sizes, sdpa=sdpa) for sdpa in (False, True))
    x = torch.randn(2, length, 32, requires_grad=True)
    expected, y = explicit(x), sdpa(x)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad(out.square().sum(), [x, attention.qkv.weight])
        for attention, out in ((explicit, expected), (sdpa, y))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_attention_implementation_per_context_length(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def sdpa(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(options)
        return original(*arguments, **options)

    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", sdpa)

    rope = RotaryEmbedding(block_size=64, head_size=8)
    qk_norm = nn.LayerNorm(8, elementwise_affine=False)

    def uses_sdpa(block_size: int, **options: Any) -> bool:
        calls.clear()
        build_attention(block_size=block_size, **options)(torch.randn(2, 8, 32))
        return len(calls) == 1

    assert not uses_sdpa(SHORT_CONTEXT)
    assert not uses_sdpa(SHORT_CONTEXT, rope=rope)
    assert not uses_sdpa(SHORT_CONTEXT, qk_norm=qk_norm)
    assert uses_sdpa(SHORT_CONTEXT + 1)
    assert uses_sdpa(SHORT_CONTEXT + 1, rope=rope, qk_norm=qk_norm)
    assert not uses_sdpa(SHORT_CONTEXT + 1, sdpa=False)


@pytest.mark.parametrize("length", [8, 64])
def test_attention_weights_are_dropped_in_training_only(length: int) -> None:
    attention = build_attention(block_size=length, dropout=0.5)
    x = torch.randn(2, length, 32)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


@pytest.mark.parametrize("rung", RUNGS)
def test_attention_weights_are_a_distribution_over_the_past(rung: str) -> None:
    net = build_rung(rung).eval()
    maps = attention_weights(net, torch.randint(VOCAB, (8,)))
    assert len(maps) == len([m for m in net.modules() if isinstance(m, CausalSelfAttention | UniformAttention)])
    assert (len(maps) > 0) == (rung not in ("bigram", "embedding"))
    for heads in maps:
        assert heads.shape[1:] == (8, 8)
        torch.testing.assert_close(heads.sum(dim=-1), torch.ones(heads.shape[:2]))
        assert heads.triu(1).abs().sum() == 0


@pytest.mark.parametrize("length", [8, 3])
@pytest.mark.parametrize("block_size", [8, 64])
def test_reported_weights_are_those_that_forward_uses(block_size: int, length: int) -> None:
    attention = build_attention(block_size=block_size).eval()
    x = torch.randn(2, length, 32)
    _, _, v = attention.split_heads(attention.qkv(x))
    y = (attention.weights(x) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x), y, atol=1e-5, rtol=1e-5)


def test_uniform_attention_averages_the_past() -> None:
    attention = UniformAttention(32, n_head=2, head_size=8, projection=False, bias=True)
    x = torch.randn(2, 8, 32)
    v = attention.value(x)
    expected = torch.stack([v[:, : t + 1].mean(dim=1) for t in range(8)], dim=1)
    torch.testing.assert_close(attention(x), expected)
    torch.testing.assert_close(attention.weights(x)[:, 0] @ v, expected)


def test_unscaled_scores_give_sharper_weights() -> None:
    maps = [
        attention_weights(build_rung("multihead", f"model.scale={scale}").eval(), torch.arange(8))[0]
        for scale in ("true", "false")
    ]
    entropy = [-(weights * weights.clamp_min(1e-9).log()).sum() for weights in maps]
    assert entropy[1] < entropy[0]


def test_initial_qkv_weights_are_those_of_separate_heads() -> None:
    attention = build_attention(n_head=2)
    torch.manual_seed(0)
    for head in range(2):
        key, query, value = (nn.Linear(32, 8, bias=False).weight for _ in range(3))
        parts = attention.qkv.weight.view(3, 2, 8, 32)[:, head]
        for part, expected in zip(parts, (query, key, value), strict=True):
            assert torch.equal(part, expected)
