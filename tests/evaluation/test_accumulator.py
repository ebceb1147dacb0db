"""The mean loss of many batches."""

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
