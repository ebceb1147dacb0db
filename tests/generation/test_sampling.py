"""Sampling: which tokens are drawn, from which distribution, and which options are refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptladder.data.tokenizer import CharTokenizer
from gptladder.generation.sampling import generate, generate_text
from gptladder.system.errors import UserError

ABCD = CharTokenizer("abcd")


class Constant(nn.Module):
    """The same logits at every position; it records its inputs."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.inputs: list[Tensor] = []

    def forward(self, idx: Tensor) -> Tensor:
        self.inputs.append(idx)
        return self.logits.expand(*idx.shape, -1)


def sample(net: nn.Module, prompt: str = "", *, tokenizer: CharTokenizer = ABCD, **options: Any) -> str:
    options = {"n_samples": 1, "n_tokens": 20, "seed": 1, "block_size": 4, **options}
    return "".join(generate_text(net, tokenizer, prompt, **options))


def test_temperature_zero_is_greedy() -> None:
    assert sample(Constant(0.0, 0.1, 0.3, 0.2), "a", temperature=0.0, n_tokens=5) == "accccc"


def test_a_temperature_near_zero_is_greedy() -> None:
    for temperature in (1e-5, 1e-7, 1e-40, 1e-320):
        assert sample(Constant(0.0, 5.0, 60.0, 5.0), "a", temperature=temperature, n_tokens=5) == "accccc"


def test_top_k_of_one_is_greedy() -> None:
    assert sample(Constant(0.0, 0.1, 0.3, 0.2), top_k=1, n_tokens=5) == "ccccc"


def test_top_k_samples_only_from_the_k_most_likely_tokens() -> None:
    assert set(sample(Constant(0.0, 0.1, 0.3, 0.2), top_k=2, n_tokens=200)) == {"c", "d"}


def test_top_k_above_the_vocabulary_size_changes_nothing() -> None:
    net = Constant(0.0, 1.0, 2.0, 3.0)
    assert sample(net, top_k=1000) == sample(net)


def test_top_p_samples_from_the_fewest_tokens_that_have_it() -> None:
    net = Constant(*torch.tensor([0.1, 0.5, 0.3, 0.1]).log().tolist())
    assert set(sample(net, top_p=0.4, n_tokens=200)) == {"b"}
    assert set(sample(net, top_p=0.6, n_tokens=200)) == {"b", "c"}
    assert set(sample(net, top_p=0.85, n_tokens=400)) <= set("abcd")
    assert sample(net, top_p=1.0, n_tokens=50) == sample(net, n_tokens=50)
    assert set(sample(net, top_k=1, top_p=0.99, n_tokens=50)) == {"b"}


def test_tokens_are_as_frequent_as_the_network_predicts() -> None:
    probabilities = [0.1, 0.2, 0.3, 0.4]
    text = sample(Constant(*map(math.log, probabilities)), n_tokens=4000)
    for character, probability in zip("abcd", probabilities, strict=True):
        assert text.count(character) / 4000 == pytest.approx(probability, abs=0.03)


def test_temperature_divides_the_logits() -> None:
    text = sample(Constant(0.0, 0.0, 0.0, 2.0), n_tokens=4000, temperature=2.0)
    assert text.count("d") / 4000 == pytest.approx(math.e / (math.e + 3), abs=0.03)


def test_tokens_are_those_of_multinomial() -> None:
    logits = torch.randn(50)
    tokens = generate(
        Constant(*logits.tolist()),
        torch.zeros(3, 1, dtype=torch.long),
        n_tokens=20,
        block_size=4,
        generator=torch.Generator().manual_seed(7),
    )
    generator = torch.Generator().manual_seed(7)
    probabilities = logits.softmax(dim=-1).expand(3, -1)
    for token in tokens:
        assert torch.equal(token, torch.multinomial(probabilities, 1, generator=generator).squeeze(1))


def test_a_seed_determines_the_text() -> None:
    net = Constant(0.0, 0.0, 0.0, 0.0)
    assert sample(net, seed=7) == sample(net, seed=7) != sample(net, seed=8)


def test_sampling_does_not_change_the_global_generator() -> None:
    before = torch.get_rng_state()
    sample(Constant(0.0, 0.0, 0.0, 0.0))
    list(generate(Constant(0.0, 0.0), torch.zeros(1, 1, dtype=torch.long), n_tokens=3, block_size=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_network_sees_only_the_last_block_size_tokens() -> None:
    net = Constant(0.0, 0.0, 0.0, 0.0)
    sample(net, "aabbccdd", n_tokens=3)
    assert [idx.size(1) for idx in net.inputs] == [4, 4, 4]
    assert ABCD.decode(net.inputs[0][0]) == "ccdd"


@pytest.mark.parametrize(("vocabulary", "start"), [("abcd", "a"), ("ab\nd", "\n")])
def test_an_empty_prompt_starts_from_a_newline_or_token_0_which_is_not_shown(vocabulary: str, start: str) -> None:
    net = Constant(0.0, 0.0, 0.0, 9e9)
    tokenizer = CharTokenizer(vocabulary)
    assert sample(net, n_tokens=2, tokenizer=tokenizer) == "dd"
    assert tokenizer.decode(net.inputs[0][0]) == start


def test_several_samples_differ_and_have_a_line_between_them() -> None:
    samples = sample(Constant(0.0, 0.0, 0.0, 0.0), "ab", n_samples=3).split("\n----\n")
    assert len(set(samples)) == 3
    assert all(text.startswith("ab") and len(text) == 22 for text in samples)


def test_zero_tokens_give_the_prompt_alone() -> None:
    assert sample(Constant(0.0, 0.0, 0.0, 0.0), "abc", n_tokens=0) == "abc"
    assert sample(Constant(0.0, 0.0, 0.0, 0.0), "ab", n_tokens=0, n_samples=2) == "ab\n----\nab"


@pytest.mark.parametrize(
    ("options", "words"),
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
def test_an_invalid_option_is_named_before_any_text(options: dict[str, Any], words: str) -> None:
    options = {"prompt": "a", "n_samples": 1, "n_tokens": 5, "seed": 1, "block_size": 4, **options}
    with pytest.raises(UserError, match=words):
        next(generate_text(Constant(0.0, 0.0, 0.0, 0.0), ABCD, **options))


def test_generate_refuses_an_invalid_option_before_the_first_token() -> None:
    with pytest.raises(UserError, match="temperature=-1"):
        generate(Constant(0.0), torch.zeros(1, 1, dtype=torch.long), n_tokens=1, block_size=4, temperature=-1)
