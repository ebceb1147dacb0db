"""ReLU in place, in evaluations only."""

import copy

import torch
from torch import nn

from gptladder.fast.relu import InPlaceReLU, use_in_place_relu
from gptladder.model.block import build_mlp
from gptladder.model.gpt import GPT

IDX = torch.arange(16).view(2, 8)


def test_outputs_and_gradients_have_the_same_bits() -> None:
    plain = GPT()
    fast = copy.deepcopy(plain)
    use_in_place_relu(fast)
    assert sum(isinstance(module, InPlaceReLU) for module in fast.modules()) == 3
    for net in (plain, fast):
        net(IDX).square().sum().backward()
    for expected, parameter in zip(plain.parameters(), fast.parameters(), strict=True):
        assert torch.equal(expected.grad, parameter.grad)  # type: ignore[arg-type]
    with torch.inference_mode():
        assert torch.equal(plain(IDX), fast(IDX))


def test_the_input_is_overwritten_only_without_gradients() -> None:
    relu = InPlaceReLU()
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    relu(2 * x).sum().backward()
    assert x.tolist() == [-1, 1]
    evaluated = x.detach().clone()
    assert relu(evaluated) is evaluated
    assert evaluated.tolist() == [0, 1]


def test_a_relu_that_is_not_in_a_feed_forward_of_ours_stays() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    use_in_place_relu(net)
    assert type(net[1]) is nn.ReLU
    mlp = build_mlp(4, 4, "gelu", bias=True)
    assert mlp is not None
    assert not any(isinstance(module, nn.ReLU) for module in mlp)
