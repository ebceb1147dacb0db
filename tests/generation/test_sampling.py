"""Sampling: what is drawn, from what, and which options are refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptladder.data.tokenizer import CharTokenizer
from gptladder.generation.sampling import generate, texts
from gptladder.system.errors import UserError

ABC = CharTokenizer("abcd")


class Fixed(nn.Module):
    """The same logits everywhere, and a record of what it was shown."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.shown: list[Tensor] = []
        self.show = self.shown.append  # of a copy as well, which writing makes

    def forward(self, idx: Tensor) -> Tensor:
        self.show(idx)
        return self.logits.expand(*idx.shape, -1)


def written(net: nn.Module, prompt: str = "", **options: Any) -> str:
    options = {"n_samples": 1, "n_tokens": 20, "seed": 1, "block_size": 4, **options}
    return "".join(texts(net, ABC, prompt, **options))


def test_the_likeliest_token_is_taken_at_temperature_zero() -> None:
    assert written(Fixed(0.0, 0.1, 0.3, 0.2), "a", temperature=0.0, n_tokens=5) == "accccc"


def test_a_top_k_of_one_is_greedy() -> None:
    assert written(Fixed(0.0, 0.1, 0.3, 0.2), top_k=1, n_tokens=5) == "ccccc"


def test_only_the_k_likeliest_are_drawn() -> None:
    assert set(written(Fixed(0.0, 0.1, 0.3, 0.2), top_k=2, n_tokens=200)) == {"c", "d"}


def test_a_top_k_above_the_vocabulary_changes_nothing() -> None:
    net = Fixed(0.0, 1.0, 2.0, 3.0)
    assert written(net, top_k=1000) == written(net)


def test_tokens_are_drawn_as_often_as_the_net_says() -> None:
    probabilities = [0.1, 0.2, 0.3, 0.4]
    drawn = written(Fixed(*map(math.log, probabilities)), n_tokens=4000)
    for character, probability in zip("abcd", probabilities, strict=True):
        assert drawn.count(character) / 4000 == pytest.approx(probability, abs=0.03)


def test_a_seed_fixes_the_text() -> None:
    net = Fixed(0.0, 0.0, 0.0, 0.0)
    assert written(net, seed=7) == written(net, seed=7) != written(net, seed=8)


def test_sampling_leaves_the_stream_that_training_draws_from() -> None:
    before = torch.get_rng_state()
    written(Fixed(0.0, 0.0, 0.0, 0.0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_net_sees_the_last_block_of_the_prompt_only() -> None:
    net = Fixed(0.0, 0.0, 0.0, 0.0)
    written(net, "aabbccdd", n_tokens=3)
    assert [idx.size(1) for idx in net.shown] == [4, 4, 4]
    assert ABC.decode(net.shown[0][0]) == "ccdd"


def test_an_empty_prompt_starts_from_the_first_character_and_does_not_show_it() -> None:
    net = Fixed(0.0, 0.0, 0.0, 9e9)
    assert written(net, n_tokens=2) == "dd"
    assert net.shown[0].tolist() == [[0]]


def test_several_samples_are_set_apart_and_differ() -> None:
    samples = written(Fixed(0.0, 0.0, 0.0, 0.0), "ab", n_samples=3).split("\n----\n")
    assert len(set(samples)) == 3
    assert all(sample.startswith("ab") and len(sample) == 22 for sample in samples)


def test_no_tokens_is_the_prompt_alone() -> None:
    assert written(Fixed(0.0, 0.0, 0.0, 0.0), "abc", n_tokens=0) == "abc"
    assert written(Fixed(0.0, 0.0, 0.0, 0.0), "ab", n_tokens=0, n_samples=2) == "ab\n----\nab"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"n_tokens": -1}, "tokens=-1"),
        ({"n_samples": 0}, "samples=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, f"seed={2**64}"),
        ({"prompt": "abz"}, "character 'z' at position 2"),
    ],
)
def test_an_option_out_of_range_is_named_before_anything_is_written(options: dict[str, Any], named: str) -> None:
    options = {"prompt": "a", "n_samples": 1, "n_tokens": 5, "seed": 1, "block_size": 4, **options}
    with pytest.raises(UserError, match=named):
        next(texts(Fixed(0.0, 0.0, 0.0, 0.0), ABC, **options))


def test_a_call_out_of_range_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="temperature=-1"):
        generate(Fixed(0.0), torch.zeros(1, 1, dtype=torch.long), n_tokens=1, block_size=4, temperature=-1)
