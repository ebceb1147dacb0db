"""The lecture's plain training loop, whose numbers the framework must reproduce.

A module per head, batches by list comprehension and ``torch.stack``, 200 small forwards per split and estimate.
This file does not use ``gptladder``. ``python scripts/baselines/lecture.py TEXT RUNG ...`` trains rungs one after
another, as they were published. It is the baseline of the benchmark and the reference of the tests.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

ESTIMATE_BATCHES = 200


@dataclass(frozen=True)
class Settings:
    """The settings at the top of the lecture's script."""

    rung: str
    seed: int = 1337
    block_size: int = 8
    batch_size: int = 32
    n_embd: int = 32
    interval: int = 200

    @property
    def max_steps(self) -> int:
        return 2999 if self.rung in ("bigram", "embedding") else 4999

    @property
    def lr(self) -> float:
        return 1e-2 if self.rung in ("bigram", "embedding") else 1e-3

    @property
    def n_layer(self) -> int:
        return 3 if self.rung in ("blocks", "residual", "layernorm") else 1


class Head(nn.Module):
    def __init__(self, n_embd: int, head_size: int, block_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(n_embd, head_size, bias=False)
        self.query = nn.Linear(n_embd, head_size, bias=False)
        self.value = nn.Linear(n_embd, head_size, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(block_size, block_size)))

    def forward(self, x: Tensor) -> Tensor:
        n_time = x.shape[1]
        k, q = self.key(x), self.query(x)
        weights = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
        weights = weights.masked_fill(self.tril[:n_time, :n_time] == 0, float("-inf"))
        return F.softmax(weights, dim=-1) @ self.value(x)


class Layer(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        n_head = 1 if s.rung == "singlehead" else 4
        head_size = 16 if s.rung == "singlehead" else s.n_embd // n_head
        self.heads = nn.ModuleList([Head(s.n_embd, head_size, s.block_size) for _ in range(n_head)])
        self.residual = s.rung in ("residual", "layernorm")
        if self.residual:
            self.projection = nn.Linear(s.n_embd, s.n_embd)
            wide = 4 * s.n_embd
            self.feedforward = nn.Sequential(nn.Linear(s.n_embd, wide), nn.ReLU(), nn.Linear(wide, s.n_embd))
        elif s.rung in ("feedforward", "blocks"):
            self.feedforward = nn.Sequential(nn.Linear(s.n_embd, s.n_embd), nn.ReLU())
        else:
            self.feedforward = nn.Identity()
        normed = s.rung == "layernorm"
        self.norm1 = nn.LayerNorm(s.n_embd) if normed else nn.Identity()
        self.norm2 = nn.LayerNorm(s.n_embd) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.residual:
            normed = self.norm1(x)
            x = x + self.projection(torch.cat([head(normed) for head in self.heads], dim=-1))
            return x + self.feedforward(self.norm2(x))
        return self.feedforward(torch.cat([head(x) for head in self.heads], dim=-1))


class Net(nn.Module):
    def __init__(self, s: Settings, vocab_size: int) -> None:
        super().__init__()
        self.rung = s.rung
        if s.rung == "bigram":
            self.token = nn.Embedding(vocab_size, vocab_size)
        elif s.rung == "embedding":
            self.lm_head = nn.Linear(s.n_embd, vocab_size)
            self.token = nn.Embedding(vocab_size, s.n_embd)
        else:
            self.token = nn.Embedding(vocab_size, s.n_embd)
            self.position = nn.Embedding(s.block_size, s.n_embd)
            self.layers = nn.Sequential(*[Layer(s) for _ in range(s.n_layer)])
            self.norm = nn.LayerNorm(s.n_embd) if s.rung == "layernorm" else nn.Identity()
            self.lm_head = nn.Linear(16 if s.rung == "singlehead" else s.n_embd, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.token(idx)
        if self.rung == "bigram":
            return x
        if self.rung != "embedding":
            x = self.norm(self.layers(x + self.position(torch.arange(idx.shape[1]))))
        return self.lm_head(x)


def train(
    s: Settings, text: str, max_steps: int, *, after_init: Callable[[nn.Module], None] = lambda net: None
) -> list[tuple[int, float, float]]:
    """Estimates of both splits at 0, every ``interval`` and the last step."""
    chars = sorted(set(text))
    number = {char: i for i, char in enumerate(chars)}
    data = torch.tensor([number[char] for char in text])
    n = int(0.9 * len(data))
    splits = {"train": data[:n], "val": data[n:]}

    def get_batch(split: str) -> tuple[Tensor, Tensor]:
        part = splits[split]
        ix = torch.randint(len(part) - s.block_size, (s.batch_size,))
        x = torch.stack([part[i : i + s.block_size] for i in ix])
        y = torch.stack([part[i + 1 : i + s.block_size + 1] for i in ix])
        return x, y

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x).view(-1, len(chars)), y.view(-1))

    @torch.no_grad()
    def estimate(split: str) -> float:
        losses = torch.zeros(ESTIMATE_BATCHES)
        for k in range(ESTIMATE_BATCHES):
            losses[k] = loss_of(*get_batch(split)).item()
        return losses.mean().item()

    torch.manual_seed(s.seed)
    net = Net(s, len(chars))
    after_init(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=s.lr)
    curve = []
    for step in range(max_steps + 1):
        if step % s.interval == 0 or step == max_steps:
            curve.append((step, estimate("train"), estimate("val")))
        if step < max_steps:
            loss = loss_of(*get_batch("train"))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return curve


def main() -> None:
    """Train rungs one after another, as they were published."""
    parser = argparse.ArgumentParser(description="The lecture's plain loop.")
    parser.add_argument("text", type=Path)
    parser.add_argument("rungs", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for rung in arguments.rungs:
        settings = Settings(rung)
        started = time.perf_counter()
        step, train_loss, val_loss = train(settings, arguments.text.read_text(), settings.max_steps)[-1]
        seconds = time.perf_counter() - started
        print(f"{rung:<12} step {step}  train {train_loss:.4f}  val {val_loss:.4f}  in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
