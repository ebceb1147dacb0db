"""The speed of generation, against recomputing the whole context for each token."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from gptladder.generation.sampling import generate
from gptladder.training import speed

from .timing import BenchmarkRow, compose_config, interleave

BLOCK_SIZE = 256
N_TOKENS = BLOCK_SIZE - 1
SIZES = ("model.n_layer=4", "model.n_head=4", "model.n_embd=128", f"model.block_size={BLOCK_SIZE}")


def benchmark_generation(pairs: int) -> Iterator[BenchmarkRow]:
    """A network of 4 layers and 128 channels fills its context of 256 tokens, for 1 and for 64 samples."""
    torch.manual_seed(1337)
    net = instantiate(compose_config("model=gpt", *SIZES).model, vocab_size=65).eval()
    fast_net = speed.prepare_for_generation(net)
    for n_samples in (1, 64):
        prompt = torch.zeros(n_samples, 1, dtype=torch.long)

        def with_cache(prompt: Tensor = prompt) -> float:
            return _time_generation(generate(fast_net, prompt, n_tokens=N_TOKENS, block_size=BLOCK_SIZE))

        def without_cache(prompt: Tensor = prompt) -> float:
            return _time_generation(_generate_without_cache(net, prompt))

        a, b, ratio = interleave(with_cache, without_cache, pairs)
        ours, baseline = (f"{n_samples * N_TOKENS / seconds:,.0f} tokens/s" for seconds in (a, b))
        yield BenchmarkRow(
            f"generating {n_samples} sample{'s' if n_samples > 1 else ''} of {N_TOKENS} tokens",
            ours,
            f"{baseline} without KV cache",
            f"{ratio:.1f}x faster",
            "10x" if n_samples == 1 else "40x",
        )


@torch.inference_mode()
def _generate_without_cache(net: nn.Module, idx: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(N_TOKENS):
        probabilities = net(idx)[:, -1].softmax(dim=-1)
        idx = torch.cat([idx, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
        yield idx[:, -1]


def _time_generation(tokens: Iterator[Tensor]) -> float:
    started = time.perf_counter()
    for _ in tokens:
        pass
    return time.perf_counter() - started
