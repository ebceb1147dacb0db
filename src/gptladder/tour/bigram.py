"""Chapter 4: the simplest language model, before and after training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.generation.sampling import generate
from gptladder.model.gpt import Bigram
from gptladder.model.loss import next_token_loss
from gptladder.tour.batch import sample_first_batch
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED, load_dataset
from gptladder.tour.plots import plot_heatmaps, plot_lines, printable

LR = 1e-3
BATCH_SIZE = 32
STEPS = 10_000
PRINT_INTERVAL = 1_000  # steps
N_TOKENS_BEFORE, N_TOKENS_AFTER = 100, 500  # of the samples before and after training


@dataclass(frozen=True)
class UntrainedBigram:
    """A fresh bigram, its logits and loss on the first batch, and a sample that starts from a newline."""

    net: Bigram
    logits: Tensor
    loss: float
    sample: str


def build_untrained() -> UntrainedBigram:
    """Build the bigram of seed 1337, with ``(B*T, V)`` logits and loss on the first batch, and 100 sampled tokens.

    Everything later continues from the same global generator, as in the notebook.
    """
    x, y = sample_first_batch()
    torch.manual_seed(SEED)
    net = Bigram(vocab_size=load_dataset().tokenizer.vocab_size, block_size=BLOCK_SIZE)
    logits = net(x)
    return UntrainedBigram(
        net, logits.flatten(0, 1), next_token_loss(logits, y).item(), sample_text(net, N_TOKENS_BEFORE)
    )


def sample_text(net: Bigram, n_tokens: int) -> str:
    """Generate text after a newline, with torch's global generator."""
    newline = load_dataset().tokenizer.encode("\n").long().unsqueeze(0)
    tokens = generate(net, newline, n_tokens=n_tokens, block_size=BLOCK_SIZE, generator=torch.default_generator)
    return load_dataset().tokenizer.decode(torch.cat(list(tokens)))


def train(net: Bigram, *, steps: int, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[float]:
    """Train with AdamW; return the loss of every batch."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, fused=True)
    batches = iter(load_dataset().batches(batch_size=BATCH_SIZE))
    losses = []
    for _ in progress(range(steps)):
        x, y = next(batches)
        loss = next_token_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def show(console: TourConsole) -> None:
    """Print logits, loss and sample before training, the losses during training, and loss and sample after it."""
    untrained = build_untrained()
    before = untrained.net.table.weight.detach().softmax(dim=1)
    vocab_size = len(before)
    console.paragraph(
        "A bigram model is a table: the row of a character holds one logit for each possible next character. At "
        f"initialization the logits are random, so the loss is above ln {vocab_size} = {math.log(vocab_size):.4f}, "
        "the loss of a uniform guess, and the generated text is noise."
    )
    console.code(Bigram.forward, next_token_loss, train)
    console.values(logits=list(untrained.logits.shape), loss=f"{untrained.loss:.4f}")
    console.quote(f"a sample of {N_TOKENS_BEFORE} characters before training", untrained.sample)

    losses = train(
        untrained.net,
        steps=STEPS,
        progress=lambda steps: console.progress(steps, total=STEPS, description="training"),
    )
    console.paragraph(
        f"Now {STEPS:,} steps of AdamW with learning rate {LR:g} and {BATCH_SIZE} blocks per batch. The loss falls and "
        "then levels off, because one character of context predicts no better. The sample has the shape of words but "
        "makes no sense."
    )
    rows = [(f"{step:,}", f"{losses[step]:.4f}") for step in range(0, STEPS, PRINT_INTERVAL)]
    console.table(["step", "loss of its batch"], rows, n_left=0)
    console.values(loss_of_the_last_batch=f"{losses[-1]:.4f}")
    console.quote(f"a sample of {N_TOKENS_AFTER} characters after training", sample_text(untrained.net, N_TOKENS_AFTER))

    after = untrained.net.table.weight.detach().softmax(dim=1)
    console.save_plot(
        "loss", lambda: plot_lines("loss of each batch", {"loss": losses}, xlabel="step", ylabel="nats per character")
    )
    labels = [printable(character) for character in load_dataset().tokenizer.vocabulary]
    tables = {"the table before training": before, "after training": after}
    console.save_plot("table", lambda: plot_heatmaps(tables, labels, xlabel="next character", ylabel="character"))
