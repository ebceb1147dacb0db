"""nanoGPT's documented recipe for Tiny Shakespeare, as a plain loop in PyTorch.

This file does not use ``gptladder``. ``python scripts/baselines/nanogpt.py TEXT`` trains like nanoGPT's
``train.py config/train_shakespeare_char.py --device=cpu --compile=False`` with the sizes that its README gives for a
CPU. It is the baseline of the benchmark and the reference of the tests; ``nanogpt_gpu.py`` times it on a GPU.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """The settings of the README for a CPU and of the config file."""

    seed: int = 1337
    block_size: int = 64
    batch_size: int = 12
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    max_iters: int = 2000
    lr: float = 1e-3
    min_lr: float = 1e-4
    warmup_iters: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    eval_interval: int = 250
    eval_iters: int = 20
    dropout: float = 0.0
    device: str = "cpu"


class LayerNorm(nn.Module):
    """LayerNorm with a gain and without a bias."""

    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight)


class Attention(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.n_head = s.n_head
        self.p_dropout = s.dropout
        self.query_key_value = nn.Linear(s.n_embd, 3 * s.n_embd, bias=False)
        self.projection = nn.Linear(s.n_embd, s.n_embd, bias=False)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, x: Tensor) -> Tensor:
        n_batch, n_time, n_embd = x.shape
        q, k, v = (
            part.view(n_batch, n_time, self.n_head, -1).transpose(1, 2)
            for part in self.query_key_value(x).split(n_embd, dim=2)
        )
        p = self.p_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return self.dropout(self.projection(y.transpose(1, 2).contiguous().view(n_batch, n_time, n_embd)))


class FeedForward(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.widen = nn.Linear(s.n_embd, 4 * s.n_embd, bias=False)
        self.projection = nn.Linear(4 * s.n_embd, s.n_embd, bias=False)
        self.dropout = nn.Dropout(s.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.projection(F.gelu(self.widen(x))))


class Layer(nn.Module):
    def __init__(self, s: Settings) -> None:
        super().__init__()
        self.norm1 = LayerNorm(s.n_embd)
        self.attention = Attention(s)
        self.norm2 = LayerNorm(s.n_embd)
        self.feedforward = FeedForward(s)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feedforward(self.norm2(x))


class Net(nn.Module):
    def __init__(self, s: Settings, vocab_size: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, s.n_embd)
        self.position = nn.Embedding(s.block_size, s.n_embd)
        self.dropout = nn.Dropout(s.dropout)
        self.layers = nn.ModuleList([Layer(s) for _ in range(s.n_layer)])
        self.norm = LayerNorm(s.n_embd)
        self.lm_head = nn.Linear(s.n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.token.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                narrower = math.sqrt(2 * s.n_layer) if name.endswith("projection.weight") else 1
                nn.init.normal_(parameter, std=0.02 / narrower)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.dropout(self.token(idx) + self.position(torch.arange(idx.shape[1], device=idx.device)))
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def encode(text: str) -> tuple[Tensor, Tensor, int]:
    """Training tokens, validation tokens (the last tenth), and the number of distinct characters."""
    chars = sorted(set(text))
    number = {char: i for i, char in enumerate(chars)}
    tokens = torch.tensor([number[char] for char in text])
    n = int(0.9 * len(tokens))
    return tokens[:n], tokens[n:], len(chars)


def get_batch(tokens: Tensor, s: Settings) -> tuple[Tensor, Tensor]:
    ix = torch.randint(len(tokens) - s.block_size, (s.batch_size,))
    x = torch.stack([tokens[i : i + s.block_size] for i in ix])
    y = torch.stack([tokens[i + 1 : i + 1 + s.block_size] for i in ix])
    if s.device == "cpu":
        return x, y
    return tuple(part.pin_memory().to(s.device, non_blocking=True) for part in (x, y))


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = net(x)
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))


def lr_at(it: int, s: Settings) -> float:
    """Linear warm-up, then cosine decay."""
    if it < s.warmup_iters:
        return s.lr * (it + 1) / (s.warmup_iters + 1)
    ratio = (it - s.warmup_iters) / (s.max_iters - s.warmup_iters)
    return s.min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (s.lr - s.min_lr)


def build_optimizer(net: nn.Module, s: Settings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": s.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s.lr, betas=s.betas, fused=s.device != "cpu" or None)


def steps(net: nn.Module, tokens: Tensor, s: Settings) -> Iterator[float]:
    """Train, and yield the loss of each step."""
    for loss in unread_steps(net, tokens, s):
        yield loss.item()


def unread_steps(
    net: nn.Module, tokens: Tensor, s: Settings, loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] = loss_of
) -> Iterator[Tensor]:
    """Train, and yield the loss of each step as a tensor; on a GPU it may still be in the queue."""
    optimizer = build_optimizer(net, s)
    batch = None
    for it in range(s.max_iters):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(it, s)
        with autocast(s):
            loss = loss_of(net, *(batch or get_batch(tokens, s)))
        batch = None if s.device == "cpu" else get_batch(tokens, s)  # while the GPU computes
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), s.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.detach()


def autocast(s: Settings) -> AbstractContextManager[None]:
    """Mixed precision in bf16 on a GPU."""
    return nullcontext() if s.device == "cpu" else torch.autocast(s.device, dtype=torch.bfloat16)


@torch.no_grad()
def estimate(net: nn.Module, tokens: Tensor, s: Settings) -> float:
    """The mean loss over a few random batches."""
    return sum(loss_of(net, *get_batch(tokens, s)).item() for _ in range(s.eval_iters)) / s.eval_iters


@torch.no_grad()
def exact(net: nn.Module, tokens: Tensor, s: Settings, n_blocks: int = 64) -> float:
    """The mean loss over consecutive blocks: every token but the first is predicted once."""
    total, n_predicted = 0.0, len(tokens) - 1
    n_full = n_predicted // s.block_size * s.block_size
    x, y = (tokens[start : start + n_full].view(-1, s.block_size) for start in (0, 1))
    pieces = list(zip(x.split(n_blocks), y.split(n_blocks), strict=True))
    if n_full < n_predicted:
        pieces.append((tokens[n_full:-1].unsqueeze(0), tokens[n_full + 1 :].unsqueeze(0)))
    for some_x, some_y in pieces:
        total += loss_of(net, some_x, some_y).item() * some_y.numel()
    return total / n_predicted


def main() -> None:
    """Train, and print the exact loss of the validation split."""
    parser = argparse.ArgumentParser(description="nanoGPT's recipe for a CPU as a plain loop.")
    parser.add_argument("text", type=Path)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--max-iters", type=int, default=Settings.max_iters)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    s = Settings(seed=arguments.seed, max_iters=arguments.max_iters)
    torch.manual_seed(s.seed)
    train_tokens, val_tokens, vocab_size = encode(arguments.text.read_text())
    net = Net(s, vocab_size)
    print(
        f"step {0:>4}  train {estimate(net, train_tokens, s):.4f}  val {estimate(net, val_tokens, s):.4f}", flush=True
    )
    for it, _ in enumerate(steps(net, train_tokens, s), start=1):
        if it % s.eval_interval == 0 or it == s.max_iters:
            losses = [estimate(net, tokens, s) for tokens in (train_tokens, val_tokens)]
            print(f"step {it:>4}  train {losses[0]:.4f}  val {losses[1]:.4f}", flush=True)
    print(f"exact val loss {exact(net, val_tokens, s):.4f}")


if __name__ == "__main__":
    main()
