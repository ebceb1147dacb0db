"""The data module: splits, loaders, and streams of random numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from gptladder.data.datamodule import STREAMS, TextDataModule
from gptladder.data.training_batches import SequenceLengthWarmup
from gptladder.system.errors import UserError


def build_data(**options: Any) -> TextDataModule:
    return TextDataModule(**{"batch_size": 4, **options})


def test_a_batch_that_no_machine_can_hold_is_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=1000000000 windows of model\.block_size=8 need 2,080 GB"):
        TextDataModule(batch_size=10**9)


def test_defaults_are_tiny_shakespeare_split_as_in_the_lecture() -> None:
    data = TextDataModule()
    assert data.tokenizer.vocab_size == 65
    assert (len(data.train_tokens), len(data.val_tokens)) == (1_003_854, 111_540)
    assert data.train_tokens.dtype == torch.uint8
    assert data.corpus_sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert (data.batch_size, data.block_size, data.stream, data.estimate_batches) == (32, 8, "published", 200)


def test_loaders_give_pairs_of_tokens_and_next_tokens() -> None:
    data = build_data(estimate_batches=3)
    train, *val = data.train_dataloader(), *data.val_dataloader()
    assert len(train) == len(data.train_tokens) // (4 * 8)  # one epoch has as many tokens as the split
    for loader in (train, *val):
        x, y = next(iter(loader))
        assert x.shape == y.shape
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x[:, 1:], y[:, :-1])
    n_tokens = [sum(y.numel() for _, y in loader) for loader in val]
    assert n_tokens == [3 * 4 * 8, 3 * 4 * 8, len(data.val_tokens) - 1]


def test_the_published_stream_is_the_global_generator() -> None:
    data = build_data(estimate_batches=3)
    torch.manual_seed(5)
    batches = [x for loader in data.val_dataloader()[:2] for x, _ in loader]
    batches.append(next(data.train_batches())[0])
    torch.manual_seed(5)
    for x, tokens in zip(batches, (data.train_tokens, data.val_tokens, data.train_tokens), strict=True):
        offsets = torch.randint(len(tokens) - 8, (len(x),))
        assert torch.equal(x, torch.stack([tokens[i : i + 8].long() for i in offsets]))


@pytest.mark.parametrize("stream", ["independent", "shuffled"])
def test_other_streams_do_not_depend_on_the_global_generator(stream: str) -> None:
    def draw(seed: int) -> list[torch.Tensor]:
        data = build_data(stream=stream, estimate_batches=2)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        batches = [next(data.train_batches())[0], *(x for x, _ in data.val_dataloader()[0])]
        assert torch.equal(torch.get_rng_state(), before)
        return batches

    assert all(map(torch.equal, draw(1), draw(2)))


@pytest.mark.parametrize("stream", ["independent", "shuffled"])
def test_evaluations_do_not_change_the_batches_of_other_streams(stream: str) -> None:
    def second_batch(n_evaluations: int) -> torch.Tensor:
        data = build_data(stream=stream)
        batches = data.train_batches()
        next(batches)
        for _ in range(n_evaluations):
            for loader in data.val_dataloader()[:2]:
                list(loader)
        return next(batches)[0]

    assert torch.equal(second_batch(0), second_batch(2))


@pytest.mark.parametrize("warmup", [None, {4: 5, 2: 2}])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_restored_stream_continues_with_the_same_batches(stream: str, warmup: dict[int, int] | None) -> None:
    torch.manual_seed(2)
    source = build_data(stream=stream, sequence_length_warmup=warmup)
    for _ in range(3):
        next(source.train_batches())
    list(source.val_dataloader()[0])
    state = source.state_dict()

    def draw(data: TextDataModule) -> list[torch.Tensor]:
        return [next(data.train_batches())[0] for _ in range(4)] + [x for x, _ in data.val_dataloader()[0]]

    expected = draw(source)
    torch.manual_seed(99)
    restored = build_data(stream=stream, sequence_length_warmup=warmup)
    restored.load_state_dict(state)
    actual = draw(restored)
    assert [x.shape for x in actual] == [x.shape for x in expected]
    assert all(map(torch.equal, actual, expected))
    assert restored.state_dict()["n_drawn"] == 7


@pytest.mark.parametrize("stream", STREAMS)
def test_training_batches_come_from_the_windows_to_overfit(stream: str) -> None:
    batches = build_data(stream=stream, overfit_windows=2).train_batches()
    windows = torch.cat([next(batches)[0] for _ in range(10)])
    assert len(windows.unique(dim=0)) == 2


def test_sequence_length_warmup_cuts_training_windows() -> None:
    batches = build_data(sequence_length_warmup={4: 1}).train_batches()
    assert isinstance(batches, SequenceLengthWarmup)
    assert [next(batches)[0].shape for _ in range(2)] == [(8, 4), (4, 8)]


def test_a_batch_must_be_divisible_by_the_processes() -> None:
    data = build_data(batch_size=6)
    data.check_divisible(3)
    with pytest.raises(UserError, match=r"data.batch_size=6 is not divisible by the 4 processes: use a multiple of 4"):
        data.check_divisible(4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"estimate_batches": 0}, "data.estimate_batches=0"),
        ({"overfit_windows": 0}, "data.overfit_windows=0"),
        ({"split": 1.0}, "data.split=1.0"),
        ({"split": "half"}, "data.split=half"),
        ({"stream": "mixed"}, "data.stream=mixed"),
        ({"cache": True}, "data.cache=True"),
        ({"sequence_length_warmup": {5: 10}}, "data.sequence_length_warmup={5: 10}"),
        ({"sequence_length_warmup": {4: 0}}, "data.sequence_length_warmup={4: 0}"),
        ({"block_size": 200_000}, "model.block_size=200000"),
    ],
)
def test_invalid_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_data(**options)


def on_device(data: TextDataModule, device: str) -> TextDataModule:
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))  # type: ignore[assignment]
    return data


def test_batches_for_a_gpu_are_pinned_and_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = next(build_data().train_batches())
    assert build_data().on_before_batch_transfer(batch, 0) is batch  # without a trainer
    assert on_device(build_data(), "cpu").on_before_batch_transfer(batch, 0) is batch
    assert not pinned
    moved = on_device(build_data(), "cuda").on_before_batch_transfer(batch, 0)
    assert [id(tensor) for tensor in moved] == [id(tensor) for tensor in pinned]
    assert all(torch.equal(a, b) and a.is_contiguous() for a, b in zip(moved, batch, strict=True))


def test_a_checkpoint_of_several_gpus_is_restored_on_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [1, 2, 3])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    state = build_data().state_dict()
    build_data().load_state_dict(state)
    assert restored == [1, 2]


def test_evaluations_on_a_gpu_take_more_windows_at_a_time_and_the_same_ones() -> None:
    def evaluate(device: str) -> list[list[torch.Tensor]]:
        data = build_data(block_size=8, estimate_batches=2_000, stream="independent")
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
        return [[y for _, y in loader] for loader in data.val_dataloader()]

    cpu, gpu = evaluate("cpu"), evaluate("cuda")
    assert all(len(few) < len(many) for few, many in zip(gpu, cpu, strict=True))
    for few, many in zip(gpu, cpu, strict=True):
        assert torch.equal(*(torch.cat([y.flatten() for y in batches]) for batches in (few, many)))
