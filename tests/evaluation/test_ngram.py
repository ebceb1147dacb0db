"""The n-gram model: Witten-Bell smoothing, a distribution after every context, evaluated as the rungs are."""

import json
import math
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gptladder.data.text import tiny_shakespeare_corpus
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer
from gptladder.evaluation.loss import exact_loss
from gptladder.evaluation.ngram import NGram
from gptladder.system.errors import UserError
from helpers.configs import assert_refused, ran

V = 5
tokens_of = st.lists(st.integers(0, V - 1), max_size=40)
orders = st.integers(1, 6)


def recursive_probability(text: list[int], order: int, context: list[int], token: int) -> float:
    """The recursion as Witten and Bell write it, with one pass over the text per context."""
    if not order:
        return 1 / V
    context = context[max(0, len(context) - order + 1) :]
    shorter = recursive_probability(text, order - 1, context, token)
    n = len(context)
    if n < order - 1:
        return shorter
    successors = Counter(text[i + n] for i in range(len(text) - n) if text[i : i + n] == context)
    if not successors:
        return shorter
    total, n_successors = sum(successors.values()), len(successors)
    return (successors[token] + n_successors * shorter) / (total + n_successors)


class NGramNet(nn.Module):
    """An n-gram model as a net: it predicts from the block alone."""

    def __init__(self, ngram: NGram) -> None:
        super().__init__()
        self.ngram = ngram

    def forward(self, idx: Tensor) -> Tensor:
        logits = torch.empty(*idx.shape, V, dtype=torch.float64)
        for block, position in torch.cartesian_prod(torch.arange(idx.size(0)), torch.arange(idx.size(1))).tolist():
            for token in range(V):
                seen = torch.cat([idx[block, : position + 1], torch.tensor([token])])
                logits[block, position, token] = self.ngram.probabilities(seen)[-1].log()
        return logits


@settings(deadline=None)
@given(text=tokens_of, seen=st.lists(st.integers(0, V - 1), min_size=2, max_size=12), order=orders)
def test_the_vectorized_probabilities_equal_the_recursion(text: list[int], seen: list[int], order: int) -> None:
    p = NGram(torch.tensor(text, dtype=torch.long), order=order, vocab_size=V).probabilities(torch.tensor(seen))
    expected = [recursive_probability(text, order, seen[:i], seen[i]) for i in range(1, len(seen))]
    assert p.tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(text=tokens_of, context=st.lists(st.integers(0, V - 1), min_size=1, max_size=8), order=orders)
def test_probabilities_sum_to_one_after_any_context(text: list[int], context: list[int], order: int) -> None:
    ngram = NGram(torch.tensor(text, dtype=torch.uint8), order=order, vocab_size=V)
    p = [float(ngram.probabilities(torch.tensor([*context, token]))[-1]) for token in range(V)]
    assert all(probability > 0 for probability in p)
    assert sum(p) == pytest.approx(1)


def test_order_one_interpolates_frequencies_with_the_uniform_distribution() -> None:
    ngram = NGram(torch.tensor([0, 0, 0, 1]), order=1, vocab_size=V)
    p = ngram.probabilities(torch.tensor([4, 0, 1, 2]))
    assert p.tolist() == pytest.approx([(3 + 2 / V) / 6, (1 + 2 / V) / 6, (2 / V) / 6])


def test_an_unseen_context_has_the_probabilities_of_the_shorter_one() -> None:
    text = torch.tensor([0, 1, 2, 0, 1, 3])
    short, long = (NGram(text, order=order, vocab_size=V) for order in (2, 3))
    unseen, seen = torch.tensor([3, 1, 2]), torch.tensor([0, 1, 2])
    assert long.probabilities(unseen)[-1] == short.probabilities(unseen)[-1]
    assert long.probabilities(seen)[-1] != short.probabilities(seen)[-1]


def test_without_training_text_the_prediction_is_uniform() -> None:
    ngram = NGram(torch.tensor([], dtype=torch.long), order=4, vocab_size=V)
    assert ngram.loss(torch.tensor([1, 2, 3])) == pytest.approx(math.log(V))


@pytest.mark.parametrize("block_size", [1, 3, 8, 30, 100])
def test_the_loss_in_windows_is_the_exact_loss_of_a_net_with_that_block_size(block_size: int) -> None:
    text = torch.randint(V, (300,), generator=torch.Generator().manual_seed(1))
    ngram = NGram(text[:250], order=4, vocab_size=V)
    expected = exact_loss(NGramNet(ngram), text[250:], block_size=block_size, vocab_size=V)
    assert ngram.loss(text[250:], block_size=block_size) == pytest.approx(expected)


def test_windows_longer_than_the_context_change_nothing() -> None:
    text = torch.randint(V, (300,), generator=torch.Generator().manual_seed(1))
    ngram = NGram(text[:250], order=5, vocab_size=V)
    assert ngram.loss(text[250:], block_size=50) == ngram.loss(text[250:])
    assert ngram.loss(text[250:], block_size=5) != ngram.loss(text[250:])


def test_a_large_vocabulary_does_not_overflow() -> None:
    vocab_size = 50_257  # to the sixth power it is past 64 bits
    text = torch.tensor([50_256, 50_255, 50_254, 7, 50_256, 50_255, 50_254, 9] * 3)
    p = NGram(text, order=6, vocab_size=vocab_size).probabilities(text[:8])
    assert (p[[0, 1]] > 0.8).all()
    assert (p <= 1).all()


def test_the_losses_on_tiny_shakespeare_are_the_known_ones() -> None:
    splits = tiny_shakespeare_corpus().split(0.9)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    started = time.perf_counter()
    losses = [NGram(train, order=order, vocab_size=tokenizer.vocab_size).loss(val) for order in (1, 2, 3, 4, 5)]
    assert time.perf_counter() - started < 60  # half a second on a quiet machine
    assert losses == sorted(losses, reverse=True)
    assert losses[3] == pytest.approx(1.78, abs=0.02)
    assert losses[4] == pytest.approx(1.68, abs=0.02)


def test_order_zero_and_a_text_of_one_token_are_user_errors() -> None:
    with pytest.raises(UserError, match="order=0"):
        NGram(torch.tensor([0]), order=0, vocab_size=V)
    with pytest.raises(UserError, match="1 tokens"):
        NGram(torch.tensor([0]), order=1, vocab_size=V).loss(torch.tensor([0]))


# The command


def test_the_command_prints_one_line_per_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("to be, or not to be: " * 50)
    arguments = ("--text", str(tmp_path / "text.txt"), "--order", "1", "3")
    ran("ngram.py", *arguments, monkeypatch=monkeypatch)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "in windows of 8" in heading
    assert [line.split()[:2] for line in lines[:2]] == [["1", "0"], ["3", "2"]]
    ran("ngram.py", *arguments, "--json", monkeypatch=monkeypatch)
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f"{row['val_loss']:.4f}" for row in values] == [line.split()[2] for line in lines[:2]]
    assert values[1]["val_bits_per_char"] == pytest.approx(values[1]["val_loss"] / math.log(2))
    assert values[1]["val_loss"] < values[1]["in_windows"] < values[0]["val_loss"]


@pytest.mark.xdist_group("finished_run")
def test_the_command_takes_text_and_block_size_from_a_run(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("ngram.py", "--run", str(finished_run), "--order", "5", "--json", monkeypatch=monkeypatch)
    of_run = json.loads(capsys.readouterr().out)
    ran("ngram.py", "--order", "5", "--json", monkeypatch=monkeypatch)
    of_shakespeare = json.loads(capsys.readouterr().out)
    assert of_run["block_size"] == 8
    assert of_run["val_loss"] == of_shakespeare["val_loss"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--order 0", "order=0"),
        ("--order many", "--order"),
        ("--text absent.txt", "--text=absent.txt"),
        ("--text letter.txt", "1 tokens"),
        ("--run .", "there is no checkpoint"),
        ("--run . --text letter.txt", "not allowed with"),
    ],
)
def test_a_user_error_is_one_line_on_stderr(
    arguments: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letter.txt").write_text("a")
    assert_refused("ngram.py", arguments, named=named, monkeypatch=monkeypatch, capsys=capsys)
