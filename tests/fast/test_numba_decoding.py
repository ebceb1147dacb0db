"""Compiled decoding gives the logits and the text of the plain network, token by token."""

import pytest
import torch
from torch import nn

from gptladder.fast.generation import can_decode, lean_copy
from gptladder.fast.numba_decoding import DecodingGPT
from gptladder.generation.sampling import generate
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache
from gptladder.training import speed
from helpers.networks import LLAMA, MODERN, VOCAB, build_gpt

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 24, "block_size": 32}


def trained_gpt(**options: object) -> nn.Module:
    """A network whose gains and biases are no longer ones and zeros."""
    net = build_gpt(**SIZES, **options).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@torch.inference_mode()
@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}, {"norm_position": "pre", "head_size": 7}])
@pytest.mark.parametrize("prompt_length", [1, 5])
def test_logits_of_every_position_agree(options: dict[str, object], prompt_length: int) -> None:
    net = trained_gpt(**options)
    fast = speed.prepare_for_generation(net)
    assert type(fast) is DecodingGPT
    idx = torch.randint(VOCAB, (1, 32))
    cache = KVCache(32)
    logits = [fast(idx[:, :prompt_length], cache)]
    logits += [fast(idx[:, t : t + 1], cache) for t in range(prompt_length, 32)]
    torch.testing.assert_close(torch.cat(logits, dim=1), net(idx), atol=1e-5, rtol=1e-5)
    assert cache.length == 32


@pytest.mark.parametrize("n_samples", [1, 3])
def test_the_text_is_the_same_also_beyond_the_context(n_samples: int) -> None:
    net = trained_gpt()
    idx = torch.randint(VOCAB, (n_samples, 4))
    ours, theirs = (
        torch.stack(list(generate(model, idx, n_tokens=50, block_size=32)))
        for model in (speed.prepare_for_generation(net), net)
    )
    assert torch.equal(ours, theirs)


@torch.inference_mode()
def test_it_shares_the_weights() -> None:
    net = trained_gpt()
    fast = speed.prepare_for_generation(net)
    for parameter in net.parameters():
        parameter.mul_(0.5)
    idx = torch.randint(VOCAB, (1, 4))
    cache = KVCache(32)
    logits = torch.cat([fast(idx[:, t : t + 1], cache) for t in range(4)], dim=1)
    torch.testing.assert_close(logits, net(idx), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        MODERN,
        LLAMA,
        {"residual": False},
        {"norm_position": "post"},
        {"activation": "gelu"},
        {"bias": False},
        {"n_layer": 0},
        {"n_embd": 512},
        {"block_size": 16},
        {"n_kv_head": 1},
        {"attention": "mean"},
    ],
)
def test_other_networks_are_generated_from_as_before(options: dict[str, object]) -> None:
    net = build_gpt(**{**SIZES, **options}).eval()
    assert not can_decode(lean_copy(net))


def test_half_precision_and_networks_in_training_mode_are_too() -> None:
    assert not can_decode(lean_copy(trained_gpt().bfloat16()))
    assert not can_decode(lean_copy(trained_gpt(dropout=0.1).train()))


@torch.inference_mode()
def test_a_full_cache_is_the_error_of_the_plain_network() -> None:
    net = trained_gpt()
    messages = []
    for model in (speed.prepare_for_generation(net), net):
        cache = KVCache(32)
        model(torch.zeros(1, 32, dtype=torch.long), cache)
        with pytest.raises(RuntimeError) as error:
            model(torch.zeros(1, 1, dtype=torch.long), cache)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@torch.inference_mode()
def test_autocast_takes_the_plain_path() -> None:
    net = trained_gpt()
    idx = torch.randint(VOCAB, (1, 4))
    logits = []
    with torch.autocast("cpu", torch.bfloat16):
        for model in (speed.prepare_for_generation(net), net):
            cache = KVCache(32)
            model(idx, cache)
            logits.append(model(idx[:, :1], cache))
    assert torch.equal(*logits)


def test_a_network_of_a_user_or_with_a_changed_part_is_not_decoded() -> None:
    class Mine(GPT):
        pass

    assert not can_decode(lean_copy(Mine(vocab_size=VOCAB, **SIZES).eval()))
    net = trained_gpt()
    net.get_submodule("blocks.1.norm2").eps = 0.5
    assert not can_decode(lean_copy(net))
    net = trained_gpt()
    net.get_submodule("blocks.0.mlp").append(nn.Linear(24, 24))
    assert not can_decode(lean_copy(net))


def test_samples_of_a_training_have_the_bits_of_the_plain_network() -> None:
    assert type(speed.prepare_for_generation(trained_gpt(), same_bits=True)) is GPT
