"""A rung trained by stock Lightning: an ordinary LightningModule and loader, as a user would write them.

Only the networks come from ``gptladder``; they are plain torch modules. ``python scripts/baselines/stock_lightning.py
TEXT RUNG`` trains one rung and prints the time per step. Like ``train.py``, it takes PyTorch's fused AdamW, logs to
TensorBoard and CSV every 50 steps, and computes on one thread. It does not evaluate.
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn

from gptladder.model.gpt import GPT, Bigram

BLOCK_SIZE = 8
BATCH_SIZE = 32

RUNGS: dict[str, Callable[..., nn.Module]] = {
    "bigram": lambda vocab_size: Bigram(vocab_size=vocab_size, block_size=BLOCK_SIZE),
    "multihead": lambda vocab_size: GPT(
        vocab_size=vocab_size,
        block_size=BLOCK_SIZE,
        n_layer=1,
        expansion=0,
        projection=False,
        residual=False,
        norm_position="none",
    ),
    "layernorm": lambda vocab_size: GPT(vocab_size=vocab_size, block_size=BLOCK_SIZE),
}


class RandomWindows:
    """An iterable of random batches, ``(x, y)`` of ``(B, T)`` each."""

    def __init__(self, tokens: Tensor, n_batches: int) -> None:
        self.windows = tokens.unfold(0, BLOCK_SIZE + 1, 1)
        self.n_batches = n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.n_batches):
            window = self.windows[torch.randint(len(self.windows), (BATCH_SIZE,))]
            yield window[:, :-1], window[:, 1:]


class StockModule(L.LightningModule):
    def __init__(self, net: nn.Module, lr: float) -> None:
        super().__init__()
        self.net = net
        self.lr = lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x).flatten(0, 1), y.flatten())
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, fused=True)


class Stopwatch(L.Callback):
    def on_train_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.started


def train(rung: str, text: str, *, n_steps: int, directory: str) -> float:
    """Train one rung; return the seconds from the first step to the last."""
    chars = sorted(set(text))
    number = {char: i for i, char in enumerate(chars)}
    tokens = torch.tensor([number[char] for char in text])
    torch.manual_seed(1337)
    module = StockModule(RUNGS[rung](vocab_size=len(chars)), lr=1e-2 if rung == "bigram" else 1e-3)
    stopwatch = Stopwatch()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=n_steps,
        logger=[TensorBoardLogger(directory), CSVLogger(directory)],
        callbacks=[stopwatch],
        log_every_n_steps=50,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, RandomWindows(tokens[: int(0.9 * len(tokens))], n_steps))
    return stopwatch.seconds


def main() -> None:
    """Train one rung and print its time per step."""
    parser = argparse.ArgumentParser(description="A rung trained by stock Lightning.")
    parser.add_argument("text", type=Path)
    parser.add_argument("rung", choices=RUNGS)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as directory:
        seconds = train(arguments.rung, arguments.text.read_text(), n_steps=arguments.steps, directory=directory)
    print(f"{arguments.rung} {1e3 * seconds / arguments.steps:.4f} ms per step")


if __name__ == "__main__":
    main()
