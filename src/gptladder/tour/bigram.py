"""Chapter 4: the simplest language model, before and after it has learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.generation.sampling import generate
from gptladder.model.gpt import Bigram
from gptladder.model.loss import next_token_loss
from gptladder.tour.batch import first_batch
from gptladder.tour.board import Board
from gptladder.tour.material import BLOCK_SIZE, SEED, material
from gptladder.tour.pictures import curves, maps, visible

LR = 1e-3
BATCH_SIZE = 32
STEPS = 10_000
SHOWN_EVERY = 1_000
BEFORE, AFTER = 100, 500  # tokens of the samples


@dataclass(frozen=True)
class Untrained:
    """A fresh bigram with what it makes of the first batch and of a newline."""

    net: Bigram
    logits: Tensor
    loss: float
    sample: str


def untrained() -> Untrained:
    """The bigram of seed 1337, its ``(B*T, V)`` logits and loss on the first batch, and a sample of 100 tokens.

    What follows goes on in the same global stream of random numbers, as it does in the notebook.
    """
    batch = first_batch()
    torch.manual_seed(SEED)
    net = Bigram(vocab_size=material().tokenizer.vocab_size, block_size=BLOCK_SIZE)
    logits = net(batch[0]).flatten(0, 1)
    return Untrained(net, logits, next_token_loss(net, batch).item(), sample(net, BEFORE))


def sample(net: Bigram, n_tokens: int) -> str:
    """What a net writes after a newline, drawn from torch's global stream."""
    newline = material().tokenizer.encode("\n").long().unsqueeze(0)
    tokens = generate(net, newline, n_tokens=n_tokens, block_size=BLOCK_SIZE, generator=torch.default_generator)
    return material().tokenizer.decode(torch.cat(list(tokens)))


def train(net: Bigram, *, steps: int, watch: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[float]:
    """Take steps of AdamW; the loss of every batch."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, fused=True)
    batches = iter(material().batches(batch_size=BATCH_SIZE))
    losses = []
    for _ in watch(range(steps)):
        loss = next_token_loss(net, next(batches))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def show(board: Board) -> None:
    """Print logits, loss and sample before training, the losses on the way, and loss and sample after it."""
    start = untrained()
    before = start.net.table.weight.detach().softmax(dim=1)
    vocab_size = len(before)
    board.say(
        "A bigram is a table: the row of a character holds a logit for each character that may follow. It starts as "
        f"noise, so its loss lies above the {math.log(vocab_size):.4f} = ln {vocab_size} of an even guess, and what "
        "it writes is noise too."
    )
    board.facts(logits=list(start.logits.shape), loss=f"{start.loss:.4f}")
    board.text(f"a sample of {BEFORE} characters before training", start.sample)

    losses = train(start.net, steps=STEPS, watch=lambda steps: board.track(steps, total=STEPS, what="training"))
    board.say(
        f"Now {STEPS:,} steps of AdamW, learning rate {LR:g}, {BATCH_SIZE} blocks a batch. Look how the loss falls and "
        "then stays: one character of context has no more to tell. The sample has the shape of words, not their sense."
    )
    rows = [(f"{step:,}", f"{losses[step]:.4f}") for step in range(0, STEPS, SHOWN_EVERY)]
    board.table(["step", "loss of its batch"], rows, left=0)
    board.facts(loss_of_the_last_batch=f"{losses[-1]:.4f}")
    board.text(f"a sample of {AFTER} characters after training", sample(start.net, AFTER))

    after = start.net.table.weight.detach().softmax(dim=1)
    board.picture("loss", lambda: curves("loss of each batch", {"loss": losses}, x="step"))
    labels = [visible(character) for character in material().tokenizer.vocabulary]
    board.picture("table", lambda: maps({"the table before training": before, "and after": after}, labels))
