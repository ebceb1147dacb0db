"""``FusedAdamWStep`` takes the step of ``torch.optim.AdamW``, to the last bit."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from gptladder.fast.adamw import FusedAdamWStep


def build_parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(5, 3)) for _ in range(4)]


def build_optimizer(parameters: list[nn.Parameter], **options: Any) -> AdamW:
    """AdamW with two groups, one without weight decay."""
    groups = [{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
    return AdamW(groups, **{"lr": 1e-2, "fused": True, **options})


def set_gradients(parameters: list[nn.Parameter], *, missing: bool = False) -> None:
    for i, parameter in enumerate(parameters):
        parameter.grad = None if missing and i == 2 else torch.randn(parameter.shape)


def train(*, fast: bool, missing: bool, **options: Any) -> list[Tensor]:
    """Parameters, moments and counters after steps with a schedule and a resume; in some a gradient may be missing."""
    parameters = build_parameters()
    optimizer = build_optimizer(parameters, **options)
    n_fast = 0
    for chunk in range(5):  # of three steps, as between two steps that Lightning sees
        step = None
        for i in range(3):
            without_gradient = missing and (chunk, i) in {(3, 1), (3, 2)}
            set_gradients(parameters, missing=without_gradient)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (3 * chunk + i + 1)
            if fast and not without_gradient and step is None and FusedAdamWStep.supports(optimizer):
                step = FusedAdamWStep(optimizer)
            if step is None or without_gradient:
                if step is not None:
                    step.finish()
                    step = None
                optimizer.step()
            else:
                step.step()
                n_fast += 1
        if step is not None:
            step.finish()
        if chunk == 2:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = build_optimizer(parameters, **options)
            optimizer.load_state_dict(state)
    # After the first step; and not when the counters of two parameters differ.
    assert n_fast == ((9 if missing else 14) if fast else 0)
    return [*parameters, *(tensor for parameter in parameters for tensor in optimizer.state[parameter].values())]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("options", [{}, {"maximize": True}, {"betas": (0.8, 0.9), "eps": 1e-3}], ids=str)
def test_parameters_moments_and_counters_equal_those_of_adamw(missing: bool, options: dict[str, Any]) -> None:
    plain, fast = (train(fast=fast, missing=missing, **options) for fast in (False, True))
    assert len(fast) == 4 * (1 + 3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(fast, plain, strict=True))


def test_every_parameter_keeps_a_counter_of_its_own() -> None:
    parameters = build_parameters()
    optimizer = build_optimizer(parameters)
    set_gradients(parameters)
    optimizer.step()
    step = FusedAdamWStep(optimizer)
    step.step()
    step.finish()
    counters = [optimizer.state[parameter]["step"] for parameter in parameters]
    assert counters == [2, 2, 2, 2]
    assert len({counter.data_ptr() for counter in counters}) == len(counters)


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"fused": False}, {"lr": torch.tensor(0.1)}], ids=str)
def test_other_options_are_left_to_pytorch(options: dict[str, Any]) -> None:
    parameters = build_parameters()
    optimizer = build_optimizer(parameters, **options)
    set_gradients(parameters)
    optimizer.step()
    assert not FusedAdamWStep.supports(optimizer)


def test_other_optimizers_hooks_and_unequal_counters_are_left_to_pytorch() -> None:
    parameters = build_parameters()
    assert not FusedAdamWStep.supports(SGD(parameters))
    optimizer = build_optimizer(parameters)
    assert not FusedAdamWStep.supports(optimizer)  # it has no state yet
    set_gradients(parameters)
    optimizer.step()
    assert FusedAdamWStep.supports(optimizer)
    hooked = copy.deepcopy(optimizer)
    hooked.register_step_post_hook(lambda *_: None)
    assert not FusedAdamWStep.supports(hooked)

    class OtherAdamW(AdamW):
        pass

    optimizer.__class__ = OtherAdamW
    assert not FusedAdamWStep.supports(optimizer)
    optimizer.__class__ = AdamW
    set_gradients(parameters, missing=True)
    optimizer.step()
    assert not FusedAdamWStep.supports(optimizer)
