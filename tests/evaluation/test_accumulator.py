"""The mean loss of many batches."""

import subprocess
import sys

import torch

from gptladder.evaluation.accumulator import LossAccumulator


def test_losses_are_weighted_by_their_tokens() -> None:
    losses = LossAccumulator()
    losses.add(torch.tensor(2.0), 30)
    losses.add(torch.tensor(4.0), 10)
    assert losses.compute().tolist() == [100.0, 40.0]
    assert losses.compute().dtype == torch.float64


def test_a_process_without_batches_adds_nothing() -> None:
    assert LossAccumulator().compute().tolist() == [0.0, 0.0]


def test_the_sum_has_every_bit_of_the_losses() -> None:
    torch.manual_seed(1)
    values, counts = torch.rand(1000) * 5, torch.randint(1, 500, (1000,))
    losses = LossAccumulator()
    for value, count in zip(values, counts.tolist(), strict=True):
        losses.add(value, count)
    assert losses.compute()[0] == values.double() @ counts.double()


def test_a_long_evaluation_takes_no_more_memory_than_a_short_one() -> None:
    """In a process of its own, because what other tests allocated could be used again."""
    code = """
import torch
from gptladder.evaluation.loss import exact_loss
from gptladder.model import Bigram
from gptladder.runs.environment import peak_memory_mb

torch.set_num_threads(1)
net, tokens = Bigram(vocab_size=1024, block_size=8), torch.randint(1024, (4_096 * 150 + 1,))
for n in (10, 150):
    exact_loss(net, tokens[: 4_096 * n + 1], block_size=8, vocab_size=1024)
    print(peak_memory_mb())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    short, long = map(int, done.stdout.split())
    assert long - short < 60
