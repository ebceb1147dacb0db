"""One step counter for all parameters gives the bits of PyTorch's AdamW."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from gptladder.fast.adamw import FusedAdamWStep


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def set_gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_steps_and_state_are_those_of_adamw() -> None:
    nets = network(), network()
    expected, ours = (AdamW(net.parameters(), lr=0.1, weight_decay=0.3, fused=True) for net in nets)
    for seed in range(3):
        for net, optimizer in zip(nets, (expected, ours), strict=True):
            set_gradients(net, seed)
            optimizer.step()
    assert FusedAdamWStep.supports(ours)
    fused = FusedAdamWStep(ours)
    for seed in range(3, 9):
        for net in nets:
            set_gradients(net, seed)
        for optimizer in (expected, ours):
            optimizer.param_groups[0]["lr"] = 0.1 / seed
        expected.step()
        fused.step()
    fused.finish()
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(expected.state[a][key], ours.state[b][key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    counters = [ours.state[parameter]["step"] for parameter in nets[1].parameters()]
    assert len({counter.data_ptr() for counter in counters}) == len(counters)


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"fused": False}, {"lr": torch.tensor(0.1)}])
def test_other_options_are_left_to_pytorch(options: dict[str, object]) -> None:
    net = network()
    optimizer = AdamW(net.parameters(), **{"fused": True, **options})  # type: ignore[arg-type]
    set_gradients(net, 0)
    optimizer.step()
    assert not FusedAdamWStep.supports(optimizer)


def test_other_optimizers_hooks_and_fresh_states_are_left_to_pytorch() -> None:
    net = network()
    assert not FusedAdamWStep.supports(SGD(net.parameters()))
    optimizer = AdamW(net.parameters(), fused=True)
    assert not FusedAdamWStep.supports(optimizer)
    set_gradients(net, 0)
    optimizer.step()
    assert FusedAdamWStep.supports(optimizer)
    hooked = copy.deepcopy(optimizer)
    hooked.register_step_post_hook(lambda *_: None)
    assert not FusedAdamWStep.supports(hooked)
