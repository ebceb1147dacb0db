"""How a split is cut into batches."""

from itertools import islice
from typing import Any

import pytest
import torch

from gptladder.data.evaluation_batches import TOKENS_PER_FORWARD, EstimateBatches, SequentialBatches
from gptladder.data.training_batches import RandomBatches, SequenceLengthWarmup, ShuffledBatches, TrainLoader

TOKENS = torch.arange(200, dtype=torch.uint8)


def test_targets_are_the_next_tokens() -> None:
    batches = RandomBatches(TOKENS, block_size=8, batch_size=4, generator=None)
    x, y = next(iter(batches))
    assert x.shape == y.shape == (4, 8)
    assert x.dtype == y.dtype == torch.int64
    assert torch.equal(x + 1, y)


def test_random_batches_are_those_of_the_lecture() -> None:
    torch.manual_seed(1337)
    batches = iter(RandomBatches(TOKENS, block_size=8, batch_size=4, generator=None))
    xs = [next(batches)[0] for _ in range(3)]
    torch.manual_seed(1337)
    for x in xs:
        offsets = torch.randint(len(TOKENS) - 8, (4,))
        assert torch.equal(x, torch.stack([TOKENS[i : i + 8].long() for i in offsets]))


def test_an_estimate_draws_the_offsets_of_200_small_batches() -> None:
    torch.manual_seed(1)
    bulk = torch.cat(
        [
            x
            for x, _ in EstimateBatches(
                TOKENS, block_size=8, batch_size=4, n_batches=200, generator=None, vocab_size=65
            )
        ]
    )
    torch.manual_seed(1)
    small = iter(RandomBatches(TOKENS, block_size=8, batch_size=4, generator=None))
    assert torch.equal(bulk, torch.cat([next(small)[0] for _ in range(200)]))


def test_random_offsets_cover_the_split_up_to_its_end() -> None:
    batches = iter(RandomBatches(TOKENS[:11], block_size=8, batch_size=64, generator=None))
    x, _ = next(batches)
    assert set(x[:, 0].tolist()) == {0, 1, 2}


def shuffled(**options: Any) -> ShuffledBatches:
    return ShuffledBatches(**{"tokens": TOKENS, "block_size": 8, "batch_size": 6, "seed": 3} | options)


def test_shuffled_batches_cover_the_split_before_any_window_repeats() -> None:
    batches = shuffled()
    offsets = torch.cat([batches.offsets for _ in islice(batches, 12)])  # three epochs of 24 windows
    epochs = [sorted(epoch.tolist()) for epoch in offsets.split(24)]
    assert all(epoch == list(range(epoch[0], 200 - 8, 8))[:24] for epoch in epochs)
    assert len({epoch[0] for epoch in epochs}) > 1  # each starts at another offset
    assert offsets[:24].tolist() != epochs[0]
    assert all(torch.equal(x + 1, y) and x.shape == (6, 8) for x, y in islice(shuffled(), 12))


@pytest.mark.parametrize("first", [1, 3, 4, 9, 50])
def test_shuffled_batches_resume_at_any_position(first: int) -> None:
    uninterrupted = [x for x, _ in islice(shuffled(batch_size=7), first + 5)]
    rest = [x for x, _ in islice(shuffled(batch_size=7, n_drawn=first), 5)]
    assert all(map(torch.equal, uninterrupted[first:], rest))


@pytest.mark.parametrize("length", [9, 10, 16, 17])
def test_shuffled_batches_of_a_short_split_reach_every_offset(length: int) -> None:
    offsets = torch.cat([x[:, 0] for x, _ in islice(shuffled(tokens=TOKENS[:length]), 60)])
    assert set(offsets.tolist()) == set(range(min(8, length - 8)))


def test_shuffled_batches_can_be_limited_to_a_few_windows() -> None:
    x, _ = next(iter(shuffled(max_windows=3)))
    assert sorted(x[:, 0].tolist()) == [0, 0, 95, 95, 191, 191]


def test_sequence_length_warmup_cuts_the_same_tokens_into_shorter_windows() -> None:
    full_length = list(islice(shuffled(), 6))
    cut = list(islice(SequenceLengthWarmup(shuffled(), sizes={4: 5, 2: 2}), 6))
    assert [x.shape for x, _ in cut] == [(24, 2)] * 2 + [(12, 4)] * 3 + [(6, 8)]
    for ours, theirs in zip(cut, full_length, strict=True):
        assert all(torch.equal(a.flatten(), b.flatten()) for a, b in zip(ours, theirs, strict=True))


def test_sequence_length_warmup_resumes_at_any_position() -> None:
    uninterrupted = [x for x, _ in islice(SequenceLengthWarmup(shuffled(), sizes={4: 5}), 8)]
    rest = [x for x, _ in islice(SequenceLengthWarmup(shuffled(n_drawn=3), sizes={4: 5}), 5)]
    assert all(map(torch.equal, uninterrupted[3:], rest))


@pytest.mark.parametrize("length", [9, 10, 16, 17, 18, 200])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_sequential_batches_predict_every_token_but_the_first_once(length: int, world_size: int) -> None:
    tokens = TOKENS[:length]
    ranks = [
        SequentialBatches(tokens, block_size=8, vocab_size=65, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [batch for rank in ranks for batch in rank]
    assert sum(len(rank) for rank in ranks) == len(batches)
    assert sorted(torch.cat([y.flatten() for _, y in batches]).tolist()) == list(range(1, length))
    assert all(torch.equal(x + 1, y) for x, y in batches)


def test_ranks_divide_one_global_batch() -> None:
    def random_batch(rank: int, world_size: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        options = {"block_size": 8, "batch_size": 6, "generator": generator}
        return next(iter(RandomBatches(TOKENS, **options, rank=rank, world_size=world_size)))[0]

    def shuffled_batch(rank: int, world_size: int) -> torch.Tensor:
        return next(iter(shuffled(rank=rank, world_size=world_size)))[0]

    for draw in (random_batch, shuffled_batch):
        assert torch.equal(torch.cat([draw(0, 3), draw(1, 3), draw(2, 3)]), draw(0, 1))


def test_ranks_divide_one_estimate() -> None:
    def draw(rank: int, world_size: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(5)
        options = {"block_size": 8, "batch_size": 4, "n_batches": 5, "vocab_size": 65, "generator": generator}
        batches = EstimateBatches(TOKENS, **options, rank=rank, world_size=world_size)
        windows = [x for x, _ in batches]
        assert len(windows) == len(batches)
        return torch.cat(windows).tolist()

    assert sorted(draw(0, 2) + draw(1, 2)) == sorted(draw(0, 1))


def test_a_large_vocabulary_gives_smaller_batches() -> None:
    tokens = torch.arange(100_000)
    few, many = (list(SequentialBatches(tokens, block_size=8, vocab_size=size)) for size in (65, 50_257))
    assert max(x.numel() for x, _ in few) == TOKENS_PER_FORWARD
    assert max(x.numel() for x, _ in many) * 50_257 <= 2**24
    assert torch.equal(*(torch.cat([y.flatten() for _, y in batches]) for batches in (few, many)))


@pytest.mark.parametrize("n_batches", [1, 3, 10])
def test_batches_sampled_in_one_call_are_those_of_one_by_one(n_batches: int) -> None:
    def random() -> RandomBatches:
        return RandomBatches(TOKENS, block_size=8, batch_size=2, generator=torch.Generator().manual_seed(3))

    one_by_one = list(islice(random(), n_batches))
    batches = random()
    for (x, y), (bulk_x, bulk_y) in zip(one_by_one, batches.sample(n_batches), strict=True):
        assert torch.equal(x, bulk_x)
        assert torch.equal(y, bulk_y)
        assert batches.offsets.tolist() == bulk_x[:, 0].tolist()  # the tokens count up from 0
    assert batches.n_drawn == n_batches


def test_an_epoch_of_a_loader_continues_the_stream() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = TrainLoader(RandomBatches(TOKENS, block_size=8, batch_size=2, generator=generator), n_batches=3)
    assert len(loader) == 3
    epochs = [torch.cat([x for x, _ in loader]) for _ in range(2)]
    assert not torch.equal(*epochs)
    generator.manual_seed(3)
    uninterrupted = RandomBatches(TOKENS, block_size=8, batch_size=2, generator=generator)
    assert torch.equal(torch.cat(epochs), torch.cat([x for x, _ in islice(uninterrupted, 6)]))
