"""How fast a net writes, beside thinking about the whole context again for each token."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from gptladder.generation.sampling import generate

from .pairs import ROOT, Row, in_turn

BLOCK_SIZE = 256
N_TOKENS = BLOCK_SIZE - 1
SIZES = ("model.n_layer=4", "model.n_head=4", "model.n_embd=128", f"model.block_size={BLOCK_SIZE}")


def measure(arguments: Namespace) -> Iterator[Row]:
    """A net of 4 layers of 128 fills its block of 256 from the first token."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["model=gpt", *SIZES])
    torch.manual_seed(1337)
    net = instantiate(cfg.model, vocab_size=65).eval()
    for n_samples in (1, 64):
        start = torch.zeros(n_samples, 1, dtype=torch.long)
        a, b, ratio = in_turn(
            lambda start=start: _seconds(_ours(net, start)),  # type: ignore[misc]
            lambda start=start: _seconds(_whole_context(net, start)),  # type: ignore[misc]
            arguments.pairs,
        )
        ours, theirs = (f"{n_samples * N_TOKENS / seconds:,.0f} tokens/s" for seconds in (a, b))
        what = f"writing {n_samples} sample{'s' if n_samples > 1 else ''} of {N_TOKENS} tokens"
        yield Row(what, ours, f"{theirs}, whole context", f"{ratio:.1f} times faster", "5 times, dream 10 times")


def _ours(net: nn.Module, start: Tensor) -> Iterator[Tensor]:
    return generate(net, start, n_tokens=N_TOKENS, block_size=BLOCK_SIZE)


@torch.inference_mode()
def _whole_context(net: nn.Module, idx: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(N_TOKENS):
        likely = net(idx)[:, -1].softmax(dim=-1)
        idx = torch.cat([idx, torch.multinomial(likely, 1, generator=generator)], dim=1)
        yield idx[:, -1]


def _seconds(tokens: Iterator[Tensor]) -> float:
    started = time.perf_counter()
    for _ in tokens:
        pass
    return time.perf_counter() - started
