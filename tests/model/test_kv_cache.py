"""Claims about writing with a memory: the same text as without one, each token thought about once."""

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from gptladder.generation.sampling import generate
from gptladder.model.kv_cache import NO_MEMORY, Reader
from helpers.configs import RUNGS, composed


def built(*overrides: str) -> nn.Module:
    torch.manual_seed(1)
    net: nn.Module = instantiate(composed(*overrides, "run_dir=x").model, vocab_size=11)
    for parameter in net.parameters():  # what starts at zero would hide a mistake
        nn.init.normal_(parameter, std=0.2)
    return net.eval()


MODERN = ["rotary=true", "qk_norm=true", "n_previous=2", "pairs=true"]
NETS = {
    **{rung: [f"model={rung}"] for rung in RUNGS},
    "gpt": ["model=gpt", "model.n_embd=48"],
    "modern": ["model=layernorm", "model.positions=false", *(f"+model.{word}" for word in MODERN)],
    "modern with a long block": ["model=layernorm", "model.block_size=32", *(f"+model.{word}" for word in MODERN)],
}


@torch.inference_mode()
@pytest.mark.parametrize("overrides", NETS.values(), ids=NETS.keys())
def test_reading_piece_by_piece_gives_the_logits_of_the_whole(overrides: list[str]) -> None:
    net = built(*overrides)
    idx = torch.randint(11, (3, 8))
    reader = Reader(net, 8)
    pieces = [reader.read(idx[:, :3]), *(reader.read(idx[:, i : i + 1]) for i in range(3, 8))]
    assert torch.allclose(torch.cat(pieces, dim=1), net(idx), atol=1e-4)


def without_memory(net: nn.Module, idx: Tensor, n_tokens: int, block_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    for _ in range(n_tokens):
        likely = net(idx[:, -block_size:])[:, -1].softmax(dim=-1)
        idx = torch.cat([idx, torch.multinomial(likely, 1, generator=generator)], dim=1)
    return idx[:, -n_tokens:]


@torch.inference_mode()
@pytest.mark.parametrize("rung", ["bigram", "average", "multihead", "layernorm"])
@pytest.mark.parametrize("prompt", [1, 5, 30])
def test_a_memory_writes_what_is_written_without_one_also_past_the_block(rung: str, prompt: int) -> None:
    net = built(f"model={rung}")
    start = torch.randint(11, (2, prompt))
    drawn = generate(net, start, n_tokens=20, block_size=8, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.stack(list(drawn), dim=1), without_memory(net, start, 20, 8))


def test_a_net_remembers_nothing_once_it_has_written() -> None:
    net = built("model=multihead")
    next(generate(net, torch.zeros(1, 1, dtype=torch.long), n_tokens=5, block_size=8))
    assert all(part.memory is NO_MEMORY for part in net.modules() if hasattr(part, "memory"))


def test_a_reader_has_the_weights_of_its_net_and_no_more_of_it() -> None:
    net = built("model=dropout")
    reader = Reader(net, 8)
    theirs = dict(reader.net.named_parameters())
    assert all(theirs[name] is parameter for name, parameter in net.named_parameters())
    assert not [part for part in reader.net.modules() if isinstance(part, nn.Dropout) or part in set(net.modules())]
    assert net.get_submodule("layers.0.attention.dropout").p == 0.2


def test_a_net_that_learns_reads_with_its_dropout() -> None:
    net, idx = built("model=dropout").train(), torch.ones(1, 8, dtype=torch.long)
    assert not torch.equal(Reader(net, 8).read(idx), Reader(net, 8).read(idx))
