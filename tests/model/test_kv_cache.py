"""The KV cache: the same logits and the same text as without one, each token computed once."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from gptladder.generation.sampling import generate
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache
from helpers.configs import RUNGS, composed

VOCAB = 11
MODERN = [
    "model=layernorm",
    "model.positions=false",
    "model.rope=true",
    "model.qk_norm=true",
    "model.n_prev_tokens=2",
    "model.bigram_embedding=true",
]
NETS = {
    **{rung: [f"model={rung}"] for rung in RUNGS if rung != "bigram"},
    "gpt": ["model=gpt", "model.n_embd=48"],
    "options beyond the lecture": MODERN,
    "the same with a long context": [*MODERN, "model.block_size=32"],
}


def build(*overrides: str) -> nn.Module:
    torch.manual_seed(1)
    net: nn.Module = instantiate(composed(*overrides).model, vocab_size=VOCAB)
    for parameter in net.parameters():  # weights that start at zero would hide an error
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


@torch.inference_mode()
@pytest.mark.parametrize("lengths", [(3, 1, 1, 1, 1, 1), (1, 3, 4)], ids=["one token at a time", "several tokens"])
@pytest.mark.parametrize("overrides", NETS.values(), ids=NETS.keys())
def test_cached_logits_equal_uncached_ones(overrides: list[str], lengths: tuple[int, ...]) -> None:
    net = build(*overrides)
    assert isinstance(net, GPT)
    idx = torch.randint(VOCAB, (3, 8))
    cache = KVCache(8)
    pieces = [net(piece, cache) for piece in idx.split(lengths, dim=1)]
    assert cache.length == 8
    torch.testing.assert_close(torch.cat(pieces, dim=1), net(idx), atol=1e-4, rtol=1e-4)


def generate_without_cache(net: nn.Module, idx: Tensor, n_tokens: int, block_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    for _ in range(n_tokens):
        probabilities = net(idx[:, -block_size:])[:, -1].softmax(dim=-1)
        idx = torch.cat([idx, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return idx[:, -n_tokens:]


@torch.inference_mode()
@pytest.mark.parametrize("rung", ["bigram", "average", "multihead", "layernorm"])
@pytest.mark.parametrize("prompt", [1, 5, 30])
def test_cached_generation_equals_uncached_beyond_block_size(rung: str, prompt: int) -> None:
    net = build(f"model={rung}")
    start = torch.randint(VOCAB, (2, prompt))
    tokens = generate(net, start, n_tokens=20, block_size=8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.stack(list(tokens), dim=1), generate_without_cache(net, start, 20, 8))


def test_each_token_is_computed_once_up_to_block_size() -> None:
    lengths = []
    net = build("model=multihead")
    net.get_submodule("lm_head").register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].size(1)))
    list(generate(net, torch.zeros(1, 3, dtype=torch.long), n_tokens=8, block_size=8))
    assert lengths == [3, 1, 1, 1, 1, 1, 8, 8]


def test_a_network_keeps_nothing_of_a_generation() -> None:
    net = build("model=multihead")
    start = torch.zeros(1, 1, dtype=torch.long)

    def text(n_tokens: int) -> list[int]:
        return [int(token) for token in generate(net, start, n_tokens=n_tokens, block_size=8)]

    def attributes() -> list[tuple[str, Any]]:
        return [(name, key) for name, module in net.named_modules() for key in vars(module)]

    before, expected = attributes(), text(8)
    next(generate(net, start, n_tokens=5, block_size=8))  # abandoned
    interleaved = [generate(net, start, n_tokens=8, block_size=8) for _ in range(2)]
    assert [(int(a), int(b)) for a, b in zip(*interleaved, strict=True)] == [(token, token) for token in expected]
    assert attributes() == before


def test_cached_decoding_keeps_dropout_in_train_mode() -> None:
    net, idx = build("model=dropout").train(), torch.ones(1, 8, dtype=torch.long)
    assert not torch.equal(net(idx, KVCache(8)), net(idx, KVCache(8)))
    assert torch.equal(net.eval()(idx, KVCache(8)), net(idx, KVCache(8)))
