"""Chapter 11: mistakes that raise no error, each trained next to the correct model, and how to recognize it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.data.windows import Batch
from gptladder.model.attention import CausalSelfAttention
from gptladder.model.gpt import GPT
from gptladder.model.loss import next_token_loss
from gptladder.tour.console import TourConsole
from gptladder.tour.dataset import BLOCK_SIZE, SEED, TRAIN_FRACTION
from gptladder.tour.plots import plot_comparisons

N_CHARACTERS = 20_000  # a short text, which even a small model overfits
BATCH_SIZE, LR, DROPOUT = 32, 3e-3, 0.1
STEPS, INTERVAL = 600, 50  # between two evaluations
EVAL_WINDOWS = 2000
CORRECT = "correct"

# What goes wrong, and how to recognize it.
MISTAKES = {
    "scores divided by head_size**-0.5": (
        "The loss stays above that of the correct model: the scores are too large, and the softmax puts all weight on "
        "one position. Print the largest weight of each row before training."
    ),
    "no mask": (
        "The loss is far too good, lower than any published one: each position reads its target from the input. The "
        "generated text is noise, because there is no future to read from."
    ),
    "targets not shifted": (
        "The loss falls to almost zero within a few hundred steps: the model copies its input. No text is that "
        "predictable."
    ),
    "gradients not zeroed": (
        "The loss falls for some dozens of steps, then rises without end: each step adds up all gradients before it. "
        "Print the norm of the gradient, which grows."
    ),
    "dropout on in evaluation": (
        "Two evaluations of the same weights on the same batch differ, and the loss is higher than that of the same "
        "weights after net.eval()."
    ),
    "validation text in training": (
        "The val loss is no higher than the train loss, where a short text should open a gap. New text shows the true "
        "loss."
    ),
}
SCALE, NO_MASK, NOT_SHIFTED, NOT_ZEROED, DROPOUT_ON, LEAK = MISTAKES


@dataclass(frozen=True)
class Losses:
    """The losses of one training, one every ``INTERVAL`` steps, in nats per token."""

    train: list[float] = field(default_factory=list)
    val: list[float] = field(default_factory=list)


def encode_short_text() -> tuple[Tensor, Tensor, int]:
    """The training and the validation split of a short text, and the size of its vocabulary."""
    text = tiny_shakespeare()[:N_CHARACTERS]
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text).long()
    n_train = int(TRAIN_FRACTION * len(tokens))
    return tokens[:n_train], tokens[n_train:], tokenizer.vocab_size


def sample(tokens: Tensor, n_windows: int, *, shift: int = 1) -> Batch:
    """Random windows ``(B, T)`` of the tokens, and their targets, ``shift`` tokens later."""
    places = torch.randint(len(tokens) - BLOCK_SIZE - 1, (n_windows, 1)) + torch.arange(BLOCK_SIZE)
    return tokens[places], tokens[places + shift]


def build(mistake: str, *, vocab_size: int) -> GPT:
    """One head of self-attention as in the rung ``singlehead``, with dropout, and with the mistake where it is one."""
    net = GPT(
        vocab_size=vocab_size, block_size=BLOCK_SIZE, n_layer=1, n_head=1, head_size=32, expansion=0, residual=False,
        norm_position="none", projection=False, dropout=DROPOUT,
    )  # fmt: skip
    (attention,) = (module for module in net.modules() if isinstance(module, CausalSelfAttention))
    if mistake == SCALE:
        attention.scale = 1 / attention.head_size**-0.5
    if mistake == NO_MASK:
        attention.causal_mask.zero_()
    return net


@torch.no_grad()
def evaluate(net: GPT, tokens: Tensor, mistake: str) -> float:
    """The mean loss over the same random windows each time; the random numbers of the training stay as they are."""
    if mistake != DROPOUT_ON:
        net.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        x, y = sample(tokens, EVAL_WINDOWS, shift=0 if mistake == NOT_SHIFTED else 1)
        loss = next_token_loss(net(x), y).item()
    net.train()
    return loss


def train_with(
    mistake: str, *, steps: int = STEPS, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> Losses:
    """Train with one mistake, or ``CORRECT``, from the same initial weights, and record the losses."""
    torch.manual_seed(SEED)
    train, val, vocab_size = encode_short_text()
    source = torch.cat([train, val]) if mistake == LEAK else train
    net = build(mistake, vocab_size=vocab_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR)
    losses = Losses()
    for step in progress(range(steps + 1)):
        if step % INTERVAL == 0:
            losses.train.append(evaluate(net, train, mistake))
            losses.val.append(evaluate(net, val, mistake))
        x, y = sample(source, BATCH_SIZE, shift=0 if mistake == NOT_SHIFTED else 1)
        loss = next_token_loss(net(x), y)
        if mistake != NOT_ZEROED:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses


def show(console: TourConsole) -> None:
    """Print the last losses of each training and how to recognize each mistake, and plot the curves."""
    console.paragraph(
        "The worst mistakes raise no error: the program runs, and only the loss is wrong, or too good. Here one head "
        f"of self-attention is trained for {STEPS:,} steps on a short text, first as it should be, then with one "
        "mistake at a time. The first is a mistake of a notebook of this lecture, whose loss stayed near 2.4: "
        "it divides the scores by head_size**-0.5, where it should multiply."
    )
    console.code(build, train_with)
    names = [CORRECT, *MISTAKES]
    results = {
        name: train_with(name, progress=lambda steps: console.progress(steps, total=STEPS + 1, description="training"))
        for name in names
    }
    rows = [
        (name, MISTAKES.get(name, ""), f"{losses.train[-1]:.4f}", f"{losses.val[-1]:.4f}")
        for name, losses in results.items()
    ]
    console.table(["mistake", "how to recognize it", "train", "val"], rows, n_left=2)
    curves = {name: losses.val for name, losses in results.items()}
    console.save_plot("mistakes", lambda: plot_comparisons(curves, reference=CORRECT, interval=INTERVAL))
