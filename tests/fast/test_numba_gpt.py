"""A training step with compiled loops gives the logits and gradients of autograd."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

from gptladder.fast import numba_gpt
from gptladder.fast.numba_gpt import GPTFunction, NumbaGPT, use_numba_gpt
from gptladder.model.gpt import GPT, build_net, describe_net
from gptladder.model.loss import next_token_loss
from gptladder.training import speed
from helpers.networks import LLAMA, MODERN, VOCAB, build_gpt, build_rung

LECTURE = ("singlehead", "multihead", "feedforward", "blocks", "residual", "layernorm")
ODD_SIZES = {"n_embd": 18, "n_head": 3, "head_size": 6, "n_layer": 2, "block_size": 5}


def both(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A network and its copy with compiled loops."""
    fast = copy.deepcopy(net)
    speed.use_fast_kernels(fast, "auto")
    assert type(fast) is NumbaGPT
    return net, fast


def logits_and_gradients(net: nn.Module, idx: Tensor) -> list[Tensor]:
    net.zero_grad()
    logits = net(idx)
    # Cross-entropy of other tokens, with a weight per token, so that no gradient is the same for two positions.
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), idx.flatten().roll(1), reduction="none")
    (loss * torch.linspace(1, 2, len(loss), dtype=loss.dtype)).sum().backward()
    return [logits.detach(), *(parameter.grad for parameter in net.parameters())]


def used(net: nn.Module, idx: Tensor) -> bool:
    """Whether a forward pass is computed by ``GPTFunction``."""
    return type(net(idx).grad_fn).__name__ == f"{GPTFunction.__name__}Backward"


@pytest.mark.parametrize("shape", [(32, 8), (3, 5), (2, 1)])
@pytest.mark.parametrize("rung", LECTURE)
def test_logits_and_gradients_agree_with_autograd(rung: str, shape: tuple[int, int]) -> None:
    plain, fast = both(build_rung(rung))
    idx = torch.randint(VOCAB, shape)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        expected = logits_and_gradients(plain.to(dtype), idx)
        for ours, theirs in zip(logits_and_gradients(fast.to(dtype), idx), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("vocab_size", [2, 13])
@pytest.mark.parametrize("options", [{}, {"residual": False}, {"projection": False}, {"norm_position": "none"}])
def test_sizes_that_no_loop_divides_evenly_agree_too(vocab_size: int, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain, fast = both(GPT(vocab_size=vocab_size, **ODD_SIZES, **options).double())
    idx = torch.randint(vocab_size, (3, 5))
    for ours, theirs in zip(logits_and_gradients(fast, idx), logits_and_gradients(plain, idx), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_two_batches_before_one_backward_do_not_share_memory() -> None:
    plain, fast = both(build_rung("layernorm").double())
    first, second = torch.randint(VOCAB, (2, 4, 8))
    for net in (plain, fast):
        net.zero_grad()
        (next_token_loss(net(first), second) + 2 * next_token_loss(net(second), first)).backward()
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-5)  # the loss is in fp32


def test_gradients_are_kept_when_the_next_batch_comes() -> None:
    _, fast = both(build_rung("multihead"))
    gradients = logits_and_gradients(fast, torch.randint(VOCAB, (4, 8)))
    copies = [gradient.clone() for gradient in gradients]
    logits_and_gradients(fast, torch.randint(VOCAB, (4, 8)))
    assert all(map(torch.equal, gradients, copies))


def test_a_second_backward_is_refused() -> None:
    _, fast = both(build_rung("multihead"))
    loss = fast(torch.zeros(1, 8, dtype=torch.long)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward a second time"):
        loss.backward()


def test_a_context_that_is_too_long_is_an_error_as_in_the_plain_network() -> None:
    plain, fast = both(build_rung("multihead"))
    for net in (plain, fast):
        with pytest.raises(RuntimeError, match="must match"):
            net(torch.zeros(1, 9, dtype=torch.long))


def test_blocks_that_differ_take_the_plain_path() -> None:
    plain, fast = both(build_rung("layernorm").double())
    idx = torch.randint(VOCAB, (4, 8))
    for net in (plain, fast):
        net.get_submodule("blocks.1").norm1 = nn.Identity()
    assert not used(fast, idx)
    torch.testing.assert_close(fast(idx), plain(idx))


def test_a_number_that_is_not_finite_reaches_the_loss() -> None:
    _, fast = both(build_rung("layernorm"))
    fast.get_parameter("blocks.0.mlp.0.weight").data[0, 0] = torch.nan
    assert fast(torch.ones(2, 8, dtype=torch.long)).isnan().any()


@pytest.mark.parametrize("token", [-1, VOCAB])
def test_a_token_outside_the_vocabulary_is_an_error_and_reads_no_other_memory(token: int) -> None:
    _, fast = both(build_rung("multihead"))
    with pytest.raises(IndexError, match="vocabulary"):
        fast(torch.tensor([[1, token]]))


def test_a_frozen_parameter_gets_no_gradient() -> None:
    _, fast = both(build_rung("layernorm"))
    fast.get_parameter("lm_head.weight").requires_grad_(False)
    next_token_loss(fast(torch.ones(2, 8, dtype=torch.long)), torch.ones(2, 8, dtype=torch.long)).backward()
    assert fast.get_parameter("lm_head.weight").grad is None
    assert fast.get_parameter("lm_head.bias").grad is not None


@torch.no_grad()
def test_without_gradients_it_is_the_plain_network() -> None:
    plain, fast = build_rung("layernorm"), build_rung("layernorm")
    speed.use_fast_kernels(plain, "auto")
    speed.use_fast_kernels(fast, "auto")
    plain.__class__ = GPT
    idx = torch.randint(VOCAB, (4, 8))
    assert torch.equal(fast(idx), plain(idx))


def test_hooks_are_called_and_replaced_modules_are_used() -> None:
    plain, fast = both(build_rung("layernorm").double())
    idx = torch.randint(VOCAB, (4, 8))
    assert used(fast, idx)
    calls: list[int] = []
    handle = fast.get_submodule("blocks.1.mlp").register_forward_hook(lambda *_: calls.append(1))
    assert not used(fast, idx)
    assert calls == [1]
    handle.remove()
    assert used(fast, idx)

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    expected = 2 * plain(idx)
    fast.lm_head.__class__ = Doubled
    torch.testing.assert_close(fast(idx), expected)
    fast.lm_head.__class__ = nn.Linear
    assert used(fast, idx)
    fast.final_norm = nn.Identity()  # from now on a rung without final norm
    plain.final_norm = nn.Identity()
    assert used(fast, idx)
    torch.testing.assert_close(fast(idx), plain(idx))


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"norm_position": "post"}, {"tie_weights": True}, MODERN, LLAMA])
def test_a_network_with_other_parts_stays_as_it_is(options: dict[str, object]) -> None:
    net = build_gpt(**options)
    speed.use_fast_kernels(net, "auto")
    assert type(net) is GPT


def test_autocast_takes_the_plain_path() -> None:
    _, fast = both(build_rung("layernorm"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not used(fast, torch.zeros(1, 8, dtype=torch.long))


def test_it_is_described_copied_and_pickled_as_a_gpt() -> None:
    plain, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (4, 8))
    expected = fast(idx)
    assert describe_net(fast) == describe_net(plain)
    assert type(build_net(describe_net(fast) or {})) is GPT
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert used(other, idx)
        assert torch.equal(other(idx), expected)


def test_its_memory_is_freed_with_it() -> None:
    _, fast = both(build_rung("multihead"))
    fast(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    assert fast in numba_gpt._parts
    alive = weakref.ref(fast)
    del fast
    gc.collect()
    assert alive() is None


def test_a_user_s_subclass_is_not_touched() -> None:
    class Mine(GPT):
        pass

    net = Mine()
    use_numba_gpt(net)
    assert type(net) is Mine
