"""Attention with Numba agrees with ``CausalSelfAttention`` and with autograd, dropout included."""

import copy
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gptladder.fast.numba_attention import NumbaAttention, NumbaSelfAttention, use_numba_attention
from gptladder.fast.numba_loops import njit
from gptladder.model.attention import SHORT_CONTEXT, CausalSelfAttention
from gptladder.model.kv_cache import KVCache
from gptladder.training import speed
from helpers.networks import VOCAB, build_gpt


def both(**options: Any) -> tuple[CausalSelfAttention, CausalSelfAttention]:
    """Attention with the same weights, plain and with Numba."""
    torch.manual_seed(0)
    plain = CausalSelfAttention(
        32,
        **{
            **{"block_size": SHORT_CONTEXT, "n_head": 4, "head_size": 8, "scale": True, "dropout": 0.0},
            **{"projection": False, "bias": True},
            **options,
        },
    )
    fast = copy.deepcopy(plain)
    use_numba_attention(fast)
    assert type(plain) is CausalSelfAttention
    assert type(fast) is NumbaSelfAttention
    return plain, fast


def output_and_gradients(attention: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of all parameters."""
    torch.manual_seed(1)  # of dropout
    x = x.detach().requires_grad_()
    y = attention(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *attention.parameters()])]


@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("n_head", "head_size", "length"), [(1, 16, 8), (4, 8, 8), (4, 8, 3), (6, 64, 16), (2, 8, 1)])
def test_outputs_and_gradients_agree_with_plain_attention(
    projection: bool, scale: bool, n_head: int, head_size: int, length: int
) -> None:
    plain, fast = both(n_head=n_head, head_size=head_size, scale=scale, projection=projection)
    x = torch.randn(2, length, 32)
    expected = output_and_gradients(plain, x)
    for ours, theirs in zip(output_and_gradients(fast, x), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    plain.double(), fast.double()
    expected = output_and_gradients(plain, x.double())
    for ours, theirs in zip(output_and_gradients(fast, x.double()), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gradient_agrees_with_finite_differences(dropout: float) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 5, 3 * 2 * 3, dtype=torch.float64, requires_grad=True)

    def attend(qkv: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same weights are dropped each time
        return NumbaAttention.apply(qkv, 2, 0.7, dropout)

    assert torch.autograd.gradcheck(attend, qkv)


@pytest.mark.parametrize("length", [3, 8, 16])
def test_the_dropout_mask_is_the_one_that_plain_attention_draws(length: int) -> None:
    plain, fast = both(dropout=0.5)
    x = torch.randn(3, length, 32)
    expected = output_and_gradients(plain, x)
    after_plain = torch.get_rng_state()
    actual = output_and_gradients(fast, x)
    assert torch.equal(torch.get_rng_state(), after_plain)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    plain.eval()
    assert not torch.allclose(plain(x), expected[0], atol=1e-2)  # dropout had an effect
    torch.testing.assert_close(fast.eval()(x), plain(x), atol=1e-5, rtol=1e-5)


def test_numba_attention_is_stable_for_large_scores() -> None:
    qkv = 1e4 * torch.randn(2, 8, 3 * 8)
    assert NumbaAttention.apply(qkv, 1, 1.0, 0.0).isfinite().all()


def test_numba_compiles_without_a_cache_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def double(out: np.ndarray) -> None:
        out *= 2

    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(double)
    numbers = np.ones(3)
    njit(double)(numbers)
    assert numbers.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "supported"),
    [
        ({"block_size": SHORT_CONTEXT}, True),
        ({"block_size": SHORT_CONTEXT + 1}, False),
        ({"rope": True}, False),
        ({"qk_norm": True}, False),
    ],
)
def test_only_plain_attention_with_a_short_context_is_replaced(options: dict[str, Any], supported: bool) -> None:
    net = build_gpt(**options)
    names = list(net.state_dict())
    use_numba_attention(net)
    replaced = [type(module) for module in net.modules() if isinstance(module, CausalSelfAttention)]
    assert replaced == [NumbaSelfAttention if supported else CausalSelfAttention] * 3
    assert list(net.state_dict()) == names


def test_other_precisions_and_a_kv_cache_use_plain_attention() -> None:
    plain, fast = both()
    x = torch.randn(2, 8, 32)
    assert torch.equal(fast(x, KVCache(8)), plain(x, KVCache(8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(x), plain(x))
    plain.bfloat16(), fast.bfloat16()
    assert torch.equal(fast(x.bfloat16()), plain(x.bfloat16()))


def test_a_network_with_numba_attention_agrees_with_the_plain_one() -> None:
    plain, fast = build_gpt(), build_gpt()
    use_numba_attention(fast)
    idx = torch.randint(VOCAB, (4, 8))
    torch.testing.assert_close(fast(idx), plain(idx), atol=1e-5, rtol=1e-5)


def test_plain_attention_is_used_without_numba_and_with_fast_false(monkeypatch: pytest.MonkeyPatch) -> None:
    def kinds(fast: speed.Fast) -> set[type[nn.Module]]:
        net = build_gpt()
        speed.use_fast_kernels(net, fast)
        return {type(module) for module in net.modules() if isinstance(module, CausalSelfAttention)}

    assert kinds("auto") == kinds(True) == {NumbaSelfAttention}
    assert kinds(False) == {CausalSelfAttention}
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    assert kinds("auto") == {CausalSelfAttention}
