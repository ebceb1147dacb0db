"""The toy of averaging has the lecture's numbers, and each mistake of chapter 11 shows the sign that it names."""

import pytest
import torch

from gptladder.runs.published import published
from gptladder.tour import mistakes
from gptladder.tour.mistakes import CORRECT, Losses
from gptladder.tour.toy import toy_average

STEPS = 300


@pytest.fixture(scope="module")
def losses() -> dict[str, Losses]:
    return {name: mistakes.train_with(name, steps=STEPS) for name in (CORRECT, *mistakes.MISTAKES)}


def test_the_toy_has_the_numbers_of_the_lecture() -> None:
    a, b, c = toy_average()
    assert torch.equal(a, torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]) / torch.tensor([[1], [2], [3]]))
    assert b.tolist() == [[2, 7], [6, 4], [6, 5]]
    assert torch.allclose(c, torch.tensor([[2, 7], [4, 5.5], [14 / 3, 16 / 3]]))


pytestmark = pytest.mark.xdist_group("mistakes")  # one process trains them


def test_the_correct_model_learns(losses: dict[str, Losses]) -> None:
    assert losses[CORRECT].val[-1] < 2.7
    assert len(losses[CORRECT].val) == STEPS // mistakes.INTERVAL + 1


def test_scores_that_are_too_large_keep_the_loss_up(losses: dict[str, Losses]) -> None:
    assert losses[mistakes.SCALE].val[-1] > losses[CORRECT].val[-1] + 0.05
    weights = {}
    for name in (CORRECT, mistakes.SCALE):
        torch.manual_seed(1337)
        net = mistakes.build(name, vocab_size=65).eval()
        (attention,) = (module for module in net.modules() if isinstance(module, mistakes.CausalSelfAttention))
        weights[name] = attention.weights(torch.randn(16, 8, 32)).amax(dim=-1)[..., 4:].mean()
    assert weights[CORRECT] < 0.5 < 0.8 < weights[mistakes.SCALE]


def test_without_a_mask_the_loss_is_below_every_published_one(losses: dict[str, Losses]) -> None:
    best = min(train for rung in published().values() for _, train, _ in rung["curve"])
    assert losses[mistakes.NO_MASK].val[-1] < best
    assert losses[mistakes.NO_MASK].train[-1] < best


def test_targets_that_are_not_shifted_are_copied(losses: dict[str, Losses]) -> None:
    assert losses[mistakes.NOT_SHIFTED].val[-1] < 0.05


def test_gradients_that_add_up_make_the_loss_rise(losses: dict[str, Losses]) -> None:
    curve = losses[mistakes.NOT_ZEROED].val
    assert curve[-1] > 1.5 * curve[0]
    assert curve[-1] > curve[-2]


def test_dropout_in_evaluation_raises_the_loss_and_makes_it_vary(losses: dict[str, Losses]) -> None:
    assert losses[mistakes.DROPOUT_ON].val[-1] > losses[CORRECT].val[-1] + 0.05
    torch.manual_seed(0)
    net, idx = mistakes.build(CORRECT, vocab_size=65), torch.arange(8).unsqueeze(0)
    assert not torch.equal(net(idx), net(idx))
    assert torch.equal(net.eval()(idx), net(idx))


def test_validation_text_in_the_training_split_closes_the_gap(losses: dict[str, Losses]) -> None:
    gap = {name: losses[name].val[-1] - losses[name].train[-1] for name in (CORRECT, mistakes.LEAK)}
    assert gap[mistakes.LEAK] < min(gap[CORRECT], 0) + 0.01
    assert losses[mistakes.LEAK].val[-1] < losses[CORRECT].val[-1]


def test_the_mistakes_change_only_what_they_name(losses: dict[str, Losses]) -> None:
    """Dropout in evaluation trains the same weights; its evaluations take no random numbers from the training."""
    state = {}
    for name in (CORRECT, mistakes.DROPOUT_ON):
        mistakes.train_with(name, steps=3)
        state[name] = torch.get_rng_state()
    assert torch.equal(state[CORRECT], state[mistakes.DROPOUT_ON])
