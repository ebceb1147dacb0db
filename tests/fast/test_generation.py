"""``lean_copy`` is the same network, only cheaper to call."""

import pytest
import torch
from torch import nn

from gptladder.fast.generation import lean_copy
from gptladder.fast.numba_attention import use_numba_attention
from gptladder.generation.sampling import generate
from gptladder.model.kv_cache import KVCache
from helpers.configs import RUNGS
from helpers.networks import MODERN, VOCAB, build_gpt, build_rung


@torch.inference_mode()
@pytest.mark.parametrize("rung", RUNGS)
def test_a_lean_copy_of_every_rung_gives_the_same_logits_and_text(rung: str) -> None:
    net = build_rung(rung).eval()
    lean = lean_copy(net)
    idx = torch.randint(VOCAB, (3, 8))
    assert torch.equal(lean(idx), net(idx))
    assert isinstance(lean, type(net))
    texts = [
        torch.stack(list(generate(model, idx, n_tokens=12, block_size=8, generator=torch.Generator().manual_seed(1))))
        for model in (lean, net)
    ]
    assert torch.equal(*texts)


@torch.inference_mode()
def test_options_beyond_the_lecture_and_numba_attention_are_copied_too() -> None:
    idx = torch.randint(VOCAB, (3, 8))
    with_numba = build_gpt()
    use_numba_attention(with_numba)
    for net in (build_gpt(**{**MODERN, "init": "gpt2"}), with_numba):
        lean = lean_copy(net.eval())
        assert torch.equal(lean(idx), net(idx))
        assert torch.equal(lean(idx, KVCache(8)), net(idx, KVCache(8)))


def test_a_lean_copy_shares_the_weights_and_nothing_else() -> None:
    net = build_rung("dropout").eval()
    modules = dict(net.named_modules())
    lean = lean_copy(net)
    shared = dict(lean.named_parameters())
    assert all(shared[name] is parameter for name, parameter in net.named_parameters())
    assert not [module for module in lean.modules() if isinstance(module, nn.Dropout) or module in set(net.modules())]
    assert dict(net.named_modules()) == modules
    assert isinstance(net.get_submodule("blocks.0.dropout"), nn.Dropout)
    assert not any("_compiled_call_impl" in vars(module) for module in net.modules())
    with torch.no_grad():
        next(net.parameters()).zero_()
    idx = torch.randint(VOCAB, (3, 8))
    assert torch.equal(lean(idx), net(idx))


def test_a_lean_copy_of_a_network_in_training_mode_keeps_its_dropout() -> None:
    lean, idx = lean_copy(build_rung("dropout").train()), torch.ones(1, 8, dtype=torch.long)
    assert not torch.equal(lean(idx), lean(idx))
    assert [module for module in lean.modules() if isinstance(module, nn.Dropout)]
