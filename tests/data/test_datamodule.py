"""Claims about splits and streams."""

from typing import Any

import pytest
import torch

from gptladder.data.datamodule import STREAMS, TextDataModule
from gptladder.data.tokenizer import CharTokenizer
from gptladder.system.errors import UserError


def data(**changes: Any) -> TextDataModule:
    arguments = {
        "path": None,
        "tokenizer": CharTokenizer.from_text,
        "split": 0.9,
        "block_size": 8,
        "batch_size": 4,
        "stream": "published",
        "estimate_batches": 200,
        "seed": 1337,
    }
    return TextDataModule(**{**arguments, **changes})


def test_shakespeare_is_split_as_in_the_lecture() -> None:
    shakespeare = data()
    assert shakespeare.tokenizer.vocab_size == 65
    assert (len(shakespeare.train_tokens), len(shakespeare.val_tokens)) == (1_003_854, 111_540)
    assert shakespeare.train_tokens.dtype == torch.uint8
    assert shakespeare.corpus_sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def test_an_independent_stream_is_deaf_to_the_global_one() -> None:
    def first(noise: int) -> torch.Tensor:
        independent = data(stream="independent")
        torch.manual_seed(noise)
        return next(independent.train_batches())[0]

    assert torch.equal(first(1), first(2))


def test_an_independent_stream_is_deaf_to_how_often_one_evaluates() -> None:
    def second(evaluations: int) -> torch.Tensor:
        independent = data(stream="independent")
        blocks = independent.train_batches()
        next(blocks)
        for _ in range(evaluations):
            for part in independent.val_dataloader()[:2]:
                list(part)
        return next(blocks)[0]

    assert torch.equal(second(0), second(2))


@pytest.mark.parametrize("stream", STREAMS)
def test_a_restored_stream_draws_on_as_if_never_stopped(stream: str) -> None:
    torch.manual_seed(2)
    source = data(stream=stream)
    list(source.val_dataloader()[0])
    state = source.state_dict()
    expected = next(source.train_batches())[0]
    torch.manual_seed(99)
    restored = data(stream=stream)
    restored.load_state_dict(state)
    assert torch.equal(next(restored.train_batches())[0], expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"split": 1.0}, "data.split=1.0"),
        ({"split": "half"}, "data.split=half"),
        ({"stream": "mixed"}, "data.stream=mixed"),
        ({"sequence_length_warmup": {5: 10}}, "data.sequence_length_warmup={5: 10}"),
        ({"sequence_length_warmup": {4: 0}}, "data.sequence_length_warmup={4: 0}"),
        ({"block_size": 200_000}, "model.block_size=200000"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        data(**changes)
