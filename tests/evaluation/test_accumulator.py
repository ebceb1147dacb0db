"""Claims about sums of losses over an evaluation."""

import threading
from functools import partial

import pytest
import torch
from torch import Tensor

from gptladder.data.batches import Batch, SequentialBatches
from gptladder.evaluation.accumulator import LossAccumulator
from gptladder.model.gpt import Bigram
from gptladder.model.loss import next_token_loss


def summed(loss: object, batches: list[Batch], *, side_by_side: int) -> Tensor:
    measuring = LossAccumulator(loss, 2, side_by_side=side_by_side, device=torch.device("cpu"))
    for i, batch in enumerate(batches):
        measuring.add(i % 2, batch)
    return measuring.finish()


def test_batches_side_by_side_come_to_the_bits_of_one_after_another() -> None:
    torch.manual_seed(0)
    batches = SequentialBatches(torch.randint(65, (100_000,)), block_size=8).batches
    loss = partial(next_token_loss, Bigram(vocab_size=65, block_size=8))
    one, three = (summed(loss, batches, side_by_side=n) for n in (1, 3))
    assert torch.equal(one, three)
    assert one[:, 1].sum() == 99_999


def test_side_by_side_means_at_the_same_time_and_without_gradients() -> None:
    meeting = threading.Barrier(2, timeout=30)

    def loss(batch: Batch) -> Tensor:
        meeting.wait()  # which two have to reach
        assert torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == 1
        return batch[0].float().mean()

    batches = [(torch.ones(1, 4), torch.ones(1, 4))] * 10
    assert summed(loss, batches, side_by_side=2).tolist() == [[20, 20], [20, 20]]


def test_what_goes_wrong_in_a_batch_goes_wrong_in_the_evaluation() -> None:
    def loss(batch: Batch) -> Tensor:
        raise IndexError("a token outside of the table")

    with pytest.raises(IndexError, match="outside"):
        summed(loss, [(torch.ones(1, 4), torch.ones(1, 4))], side_by_side=2)


def test_evaluations_share_their_threads_instead_of_starting_new_ones() -> None:
    threads = set()

    def loss(batch: Batch) -> Tensor:
        threads.add(threading.current_thread())
        return batch[0].mean()

    for _ in range(20):
        summed(loss, [(torch.ones(1, 4), torch.ones(1, 4))] * 4, side_by_side=2)
    assert 1 <= len(threads) <= 2
