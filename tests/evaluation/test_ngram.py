"""Claims about counting: it is Witten and Bell's, a distribution everywhere, measured as the rungs are."""

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


def by_hand(text: list[int], order: int, context: list[int], token: int) -> float:
    """The recursion as Witten and Bell write it, one look at the text after another."""
    if not order:
        return 1 / V
    context = context[max(0, len(context) - order + 1) :]
    shorter = by_hand(text, order - 1, context, token)
    n = len(context)
    if n < order - 1:
        return shorter
    followers = Counter(text[i + n] for i in range(len(text) - n) if text[i : i + n] == context)
    if not followers:
        return shorter
    total, kinds = sum(followers.values()), len(followers)
    return (followers[token] + kinds * shorter) / (total + kinds)


class Counts(nn.Module):
    """An n-gram dressed as a net: what it says at every position, from the block alone."""

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
def test_the_vectorised_counts_are_the_recursion(text: list[int], seen: list[int], order: int) -> None:
    p = NGram(torch.tensor(text, dtype=torch.long), order=order, vocab_size=V).probabilities(torch.tensor(seen))
    expected = [by_hand(text, order, seen[:i], seen[i]) for i in range(1, len(seen))]
    assert p.tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(text=tokens_of, context=st.lists(st.integers(0, V - 1), min_size=1, max_size=8), order=orders)
def test_the_probabilities_of_all_tokens_sum_to_one_after_any_context(
    text: list[int], context: list[int], order: int
) -> None:
    ngram = NGram(torch.tensor(text, dtype=torch.uint8), order=order, vocab_size=V)
    p = [float(ngram.probabilities(torch.tensor([*context, token]))[-1]) for token in range(V)]
    assert all(likelihood > 0 for likelihood in p)
    assert sum(p) == pytest.approx(1)


def test_order_one_is_how_often_each_token_stands_mixed_with_chance() -> None:
    ngram = NGram(torch.tensor([0, 0, 0, 1]), order=1, vocab_size=V)
    p = ngram.probabilities(torch.tensor([4, 0, 1, 2]))
    assert p.tolist() == pytest.approx([(3 + 2 / V) / 6, (1 + 2 / V) / 6, (2 / V) / 6])


def test_a_context_that_was_never_seen_leaves_everything_to_the_shorter_one() -> None:
    text = torch.tensor([0, 1, 2, 0, 1, 3])
    short, long = (NGram(text, order=order, vocab_size=V) for order in (2, 3))
    unseen, seen = torch.tensor([3, 1, 2]), torch.tensor([0, 1, 2])
    assert long.probabilities(unseen)[-1] == short.probabilities(unseen)[-1]
    assert long.probabilities(seen)[-1] != short.probabilities(seen)[-1]


def test_a_text_that_was_never_read_is_a_blind_guess() -> None:
    ngram = NGram(torch.tensor([], dtype=torch.long), order=4, vocab_size=V)
    assert ngram.loss(torch.tensor([1, 2, 3])) == pytest.approx(math.log(V))


@pytest.mark.parametrize("block_size", [1, 3, 8, 30, 100])
def test_cut_into_blocks_the_loss_is_what_a_net_of_that_block_size_is_measured_by(block_size: int) -> None:
    text = torch.randint(V, (300,), generator=torch.Generator().manual_seed(1))
    ngram = NGram(text[:250], order=4, vocab_size=V)
    measured = exact_loss(Counts(ngram), text[250:], block_size=block_size)
    assert ngram.loss(text[250:], block_size=block_size) == pytest.approx(measured)


def test_a_block_longer_than_the_text_cuts_nothing() -> None:
    text = torch.randint(V, (300,), generator=torch.Generator().manual_seed(1))
    ngram = NGram(text[:250], order=5, vocab_size=V)
    assert ngram.loss(text[250:], block_size=50) == ngram.loss(text[250:])
    assert ngram.loss(text[250:], block_size=5) != ngram.loss(text[250:])


def test_a_large_vocabulary_overflows_nothing() -> None:
    vocab_size = 50_257  # to the sixth power it is past 64 bits
    text = torch.tensor([50_256, 50_255, 50_254, 7, 50_256, 50_255, 50_254, 9] * 3)
    p = NGram(text, order=6, vocab_size=vocab_size).probabilities(text[:8])
    assert (p[[0, 1]] > 0.8).all()
    assert (p <= 1).all()


def test_four_characters_of_context_reach_1_69_on_tiny_shakespeare_in_seconds() -> None:
    splits = tiny_shakespeare_corpus().split(0.9)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    started = time.perf_counter()
    losses = [NGram(train, order=order, vocab_size=tokenizer.vocab_size).loss(val) for order in (1, 2, 3, 4, 5)]
    assert time.perf_counter() - started < 60  # half a second on a quiet machine
    assert losses == sorted(losses, reverse=True)
    assert losses[3] == pytest.approx(1.78, abs=0.02)
    assert losses[4] == pytest.approx(1.68, abs=0.02)


def test_an_order_that_is_none_and_a_text_with_nothing_to_predict_are_mistakes() -> None:
    with pytest.raises(UserError, match="order=0"):
        NGram(torch.tensor([0]), order=0, vocab_size=V)
    with pytest.raises(UserError, match="1 tokens"):
        NGram(torch.tensor([0]), order=1, vocab_size=V).loss(torch.tensor([0]))


# The command


def test_the_command_prints_a_line_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("to be, or not to be: " * 50)
    words = ("--text", str(tmp_path / "text.txt"), "--order", "1", "3")
    ran("ngram.py", *words, monkeypatch=monkeypatch)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "in blocks of 8" in heading
    assert [line.split()[:2] for line in lines[:2]] == [["1", "0"], ["3", "2"]]
    ran("ngram.py", *words, "--json", monkeypatch=monkeypatch)
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f"{row['val_loss']:.4f}" for row in figures] == [line.split()[2] for line in lines[:2]]
    assert figures[1]["val_bits_per_char"] == pytest.approx(figures[1]["val_loss"] / math.log(2))
    assert figures[1]["val_loss"] < figures[1]["in_blocks"] < figures[0]["val_loss"]


@pytest.mark.xdist_group("finished_run")
def test_of_a_run_the_text_and_the_block_size_are_taken(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("ngram.py", "--run", str(finished_run), "--order", "5", "--json", monkeypatch=monkeypatch)
    of_run = json.loads(capsys.readouterr().out)
    ran("ngram.py", "--order", "5", "--json", monkeypatch=monkeypatch)
    of_shakespeare = json.loads(capsys.readouterr().out)
    assert of_run["block_size"] == 8
    assert of_run["val_loss"] == of_shakespeare["val_loss"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--order 0", "order=0"),
        ("--order many", "--order"),
        ("--text absent.txt", "--text=absent.txt"),
        ("--text letter.txt", "1 tokens"),
        ("--run .", "there is no checkpoint"),
        ("--run . --text letter.txt", "not allowed with"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    words: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letter.txt").write_text("a")
    assert_refused("ngram.py", words, named=named, monkeypatch=monkeypatch, capsys=capsys)
