"""Compiled training steps and evaluations give the logits and gradients of PyTorch."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from gptladder.fast import numba_gpt
from gptladder.fast.numba_gpt import GPTFunction, NumbaGPT, use_numba_gpt
from gptladder.model.gpt import GPT, build_net, describe_net
from gptladder.model.loss import next_token_loss
from gptladder.training import speed
from helpers.networks import LLAMA, MODERN, VOCAB, build_gpt, build_rung

LECTURE = ("singlehead", "multihead", "feedforward", "blocks", "residual", "layernorm")
ODD_SIZES = {"n_embd": 18, "n_head": 3, "head_size": 6, "n_layer": 2, "block_size": 5}


def both(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A network and its copy with compiled loops."""
    fast = copy.deepcopy(net)
    speed.use_fast_kernels(fast, "auto")
    assert type(fast) is NumbaGPT
    return net, fast


def logits_and_gradients(net: nn.Module, idx: Tensor) -> list[Tensor]:
    net.zero_grad()
    logits = net(idx)
    # Cross-entropy of other tokens, with a weight per token, so that no gradient is the same for two positions.
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), idx.flatten().roll(1), reduction="none")
    (loss * torch.linspace(1, 2, len(loss), dtype=loss.dtype)).sum().backward()
    return [logits.detach(), *(parameter.grad for parameter in net.parameters())]


def uses_compiled_pass(net: nn.Module, idx: Tensor) -> bool:
    """Whether a forward pass is computed by ``GPTFunction``."""
    return type(net(idx).grad_fn).__name__ == f"{GPTFunction.__name__}Backward"


@pytest.mark.parametrize("shape", [(32, 8), (3, 5), (2, 1)])
@pytest.mark.parametrize("rung", LECTURE)
def test_logits_and_gradients_agree_with_autograd(rung: str, shape: tuple[int, int]) -> None:
    plain, fast = both(build_rung(rung))
    idx = torch.randint(VOCAB, shape)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        pairs = zip(logits_and_gradients(fast.to(dtype), idx), logits_and_gradients(plain.to(dtype), idx), strict=True)
        for actual, expected in pairs:
            torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("vocab_size", [2, 13])
@pytest.mark.parametrize("options", [{}, {"residual": False}, {"projection": False}, {"norm_position": "none"}])
def test_sizes_that_no_loop_divides_evenly_agree_too(vocab_size: int, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain, fast = both(GPT(vocab_size=vocab_size, **ODD_SIZES, **options).double())
    idx = torch.randint(vocab_size, (3, 5))
    for actual, expected in zip(logits_and_gradients(fast, idx), logits_and_gradients(plain, idx), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def test_two_batches_before_one_backward_do_not_share_memory() -> None:
    plain, fast = both(build_rung("layernorm").double())
    first, second = torch.randint(VOCAB, (2, 4, 8))
    for net in (plain, fast):
        net.zero_grad()
        (next_token_loss(net(first), second) + 2 * next_token_loss(net(second), first)).backward()
    for actual, expected in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, atol=1e-7, rtol=1e-5)  # the loss is in fp32


def test_gradients_are_kept_when_the_next_batch_comes() -> None:
    _, fast = both(build_rung("multihead"))
    gradients = logits_and_gradients(fast, torch.randint(VOCAB, (4, 8)))
    copies = [gradient.clone() for gradient in gradients]
    logits_and_gradients(fast, torch.randint(VOCAB, (4, 8)))
    assert all(map(torch.equal, gradients, copies))


def test_gradients_that_are_taken_without_an_optimizer_are_kept_too() -> None:
    _, fast = both(build_rung("multihead"))
    weight = fast.get_parameter("lm_head.weight")
    seen: list[Tensor] = []
    handle = weight.register_hook(seen.append)
    gradients = [
        torch.autograd.grad(next_token_loss(fast(batch), batch), weight)[0] for batch in torch.randint(VOCAB, (2, 4, 8))
    ]
    handle.remove()
    assert not torch.equal(*gradients)
    assert all(map(torch.equal, gradients, seen))


def test_a_graph_is_used_twice_only_if_it_was_retained() -> None:
    plain, fast = both(build_rung("multihead").double())
    idx = torch.randint(VOCAB, (4, 8))
    for net in (plain, fast):
        net.zero_grad()
        logits = net(idx)
        logits.sum().backward(retain_graph=True)
        logits.square().sum().backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            logits.sum().backward()
    for actual, expected in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad, atol=1e-10, rtol=1e-10)


def test_a_batch_that_changes_before_backward_is_an_error() -> None:
    _, fast = both(build_rung("multihead"))
    idx = torch.randint(VOCAB, (4, 8))
    loss = fast(idx).sum()
    idx.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_weight_that_changes_before_backward_is_an_error() -> None:
    for net in both(build_rung("multihead")):
        loss = net(torch.randint(VOCAB, (4, 8))).sum()
        with torch.no_grad():
            net.get_parameter("lm_head.weight").zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_logits_of_one_token_are_kept_when_the_next_batch_comes() -> None:
    _, fast = both(build_rung("multihead"))
    first = fast(torch.tensor([[1]])).detach()
    copy_of_first = first.clone()
    fast(torch.tensor([[2]])).sum().backward()
    fast(torch.tensor([[3]])).sum().backward()
    assert torch.equal(first, copy_of_first)


def test_many_shapes_keep_little_memory() -> None:
    _, fast = both(build_rung("multihead"))
    for n_blocks in range(1, 40):
        fast(torch.zeros(n_blocks, 8, dtype=torch.long)).sum().backward()
    assert len(numba_gpt._snapshots[fast].free_passes) <= numba_gpt.MAX_SHAPES


def test_a_context_that_is_too_long_is_an_error_as_in_the_plain_network() -> None:
    plain, fast = both(build_rung("multihead"))
    for net in (plain, fast):
        with pytest.raises(RuntimeError, match="must match"):
            net(torch.zeros(1, 9, dtype=torch.long))


def test_a_nan_weight_gives_nan_logits() -> None:
    _, fast = both(build_rung("layernorm"))
    fast.get_parameter("blocks.0.mlp.0.weight").data[0, 0] = torch.nan
    assert fast(torch.ones(2, 8, dtype=torch.long)).isnan().any()


@pytest.mark.parametrize("token", [-1, VOCAB])
def test_a_token_outside_the_vocabulary_is_an_error_and_reads_no_other_memory(token: int) -> None:
    _, fast = both(build_rung("multihead"))
    with pytest.raises(IndexError, match="vocabulary"):
        fast(torch.tensor([[1, token]]))


def test_frozen_parameters_get_no_gradient_and_the_others_the_same() -> None:
    _, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (2, 8))
    expected = dict(zip(("logits", *dict(fast.named_parameters())), logits_and_gradients(fast, idx), strict=True))
    for name, parameter in fast.named_parameters():
        parameter.requires_grad_(name.startswith(("blocks.1", "lm_head")))
    fast.zero_grad()
    logits_and_gradients(fast, idx)
    for name, parameter in fast.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name
        assert parameter.grad is None or torch.equal(parameter.grad, expected[name])


@pytest.mark.parametrize("rung", LECTURE)
def test_a_step_without_autograd_has_the_bits_of_one_with_it(rung: str) -> None:
    _, fast = both(build_rung(rung))
    for shape in ((32, 8), (3, 5)):
        x, y = torch.randint(VOCAB, (2, *shape))
        fast.zero_grad()
        expected = next_token_loss(fast(x), y)
        expected.backward()
        gradients = [parameter.grad for parameter in fast.parameters()]
        fast.zero_grad()
        loss = fast.gradients_without_autograd()(x, y)
        assert torch.equal(loss, expected)
        assert all(map(torch.equal, [parameter.grad for parameter in fast.parameters()], gradients))


def _freeze(net: nn.Module) -> None:
    net.get_parameter("lm_head.weight").requires_grad_(False)


def _observe_a_gradient(net: nn.Module) -> None:
    net.get_parameter("lm_head.weight").register_hook(lambda gradient: None)


def _observe_an_accumulated_gradient(net: nn.Module) -> None:
    net.get_parameter("lm_head.weight").register_post_accumulate_grad_hook(lambda parameter: None)


def _observe_an_output(net: nn.Module) -> None:
    net.get_submodule("lm_head").register_forward_hook(lambda *_: None)


def _observe_the_logits(net: nn.Module) -> None:
    net.register_forward_hook(lambda *_: None)


def _change_the_batch(net: nn.Module) -> None:
    net.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(1),))


def _replace_forward(net: nn.Module) -> None:
    net.forward = lambda idx: 2 * GPT.forward(net, idx)  # type: ignore[arg-type]


def _compile(net: nn.Module) -> None:
    net.compile()


OBSERVERS = [
    _freeze,
    _observe_a_gradient,
    _observe_an_accumulated_gradient,
    _observe_an_output,
    _observe_the_logits,
    _change_the_batch,
    _replace_forward,
    _compile,
]


@pytest.mark.parametrize("change", OBSERVERS, ids=lambda change: change.__name__.strip("_"))
def test_a_step_uses_autograd_where_something_observes_or_changes_it(change: Callable[[nn.Module], None]) -> None:
    _, fast = both(build_rung("multihead"))
    assert fast.gradients_without_autograd() is not None
    change(fast)
    assert fast.gradients_without_autograd() is None


def test_a_step_uses_autograd_in_anomaly_mode_and_under_autocast() -> None:
    _, fast = both(build_rung("multihead"))
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        assert fast.gradients_without_autograd() is None
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.gradients_without_autograd() is None


def test_a_step_without_autograd_checks_its_batch() -> None:
    _, fast = both(build_rung("multihead"))
    too_long = torch.zeros(1, 9, dtype=torch.long)
    with pytest.raises(RuntimeError, match="must match"):
        fast.gradients_without_autograd()(too_long, too_long)
    outside = torch.full((1, 8), VOCAB)
    with pytest.raises(IndexError, match="vocabulary"):
        fast.gradients_without_autograd()(outside, outside)


@pytest.mark.parametrize("rung", ["singlehead", "multihead", "feedforward"])
@torch.no_grad()
def test_without_gradients_a_network_of_one_block_is_the_plain_network(rung: str) -> None:
    plain, fast = build_rung(rung), build_rung(rung)
    speed.use_fast_kernels(plain, "auto")
    speed.use_fast_kernels(fast, "auto")
    plain.__class__ = GPT
    idx = torch.randint(VOCAB, (4, 8))
    assert torch.equal(fast(idx), plain(idx))


@pytest.mark.parametrize("shape", [(32, 8), (150, 8), (300, 5), (1, 1)])
@pytest.mark.parametrize("rung", LECTURE)
def test_an_evaluation_agrees_with_the_plain_network(rung: str, shape: tuple[int, int]) -> None:
    plain, fast = both(build_rung(rung).double().eval())
    idx = torch.randint(VOCAB, shape)
    for no_gradients in (torch.no_grad, torch.inference_mode):
        with no_gradients():
            torch.testing.assert_close(fast(idx), plain(idx), atol=1e-12, rtol=1e-12)


def test_evaluations_in_several_threads_draw_no_random_numbers_and_have_the_same_bits() -> None:
    _, fast = both(build_rung("layernorm").eval())
    idx = torch.randint(VOCAB, (128, 8))
    state = torch.get_rng_state()

    def evaluate(net: nn.Module) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = net(idx)
        return logits

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            logits = list(pool.map(evaluate, [copy.deepcopy(fast)] * 8))
            assert all(torch.equal(other, logits[0]) for other in logits)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_another_shape_are_noticed() -> None:
    plain, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (2, 8))
    fast(idx)
    for net in (plain, fast):
        head: Any = net.lm_head
        head.weight.data, head.bias.data = torch.ones(VOCAB + 7, 32), torch.zeros(VOCAB + 7)
        net.embedding.token.weight.data = torch.ones(VOCAB + 7, 32)
    torch.testing.assert_close(fast(idx), plain(idx), atol=1e-4, rtol=1e-4)
    for net in (plain, fast):
        net.embedding.position.weight.data = torch.ones(4, 32)
        with pytest.raises(RuntimeError, match=r"must match|out of range"):
            net(idx)


def test_weights_that_are_replaced_are_used() -> None:
    plain, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (2, 8))
    fast(idx)
    for net in (plain, fast):
        torch.manual_seed(0)
        net.lm_head.weight.data = torch.randn(VOCAB, 32)
    torch.testing.assert_close(fast(idx), plain(idx), atol=1e-4, rtol=1e-4)


def test_a_large_network_stays_as_it_is() -> None:
    net = GPT(block_size=8, n_embd=128, n_layer=4)
    use_numba_gpt(net)
    assert type(net) is GPT


def test_a_step_after_an_evaluation_in_inference_mode_works() -> None:
    _, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (32, 8))
    with torch.inference_mode():
        expected = fast(idx)
    assert torch.equal(logits_and_gradients(fast, idx)[0], expected)


def test_hooks_are_called_and_replaced_modules_are_used() -> None:
    plain, fast = both(build_rung("layernorm").double())
    idx = torch.randint(VOCAB, (4, 8))
    assert uses_compiled_pass(fast, idx)
    calls: list[int] = []
    handle = fast.get_submodule("blocks.1.mlp").register_forward_hook(lambda *_: calls.append(1))
    assert not uses_compiled_pass(fast, idx)
    assert calls == [1]
    handle.remove()
    assert uses_compiled_pass(fast, idx)

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    expected = 2 * plain(idx)
    fast.lm_head.__class__ = Doubled
    torch.testing.assert_close(fast(idx), expected)
    fast.lm_head.__class__ = nn.Linear
    assert uses_compiled_pass(fast, idx)


def _share_a_part(net: nn.Module) -> None:
    net.get_submodule("blocks.1").mlp = net.get_submodule("blocks.0.mlp")


def _share_a_weight(net: nn.Module) -> None:
    net.get_submodule("blocks.1.attention.qkv").weight = net.get_parameter("blocks.0.attention.qkv.weight")


def _tie_the_head(net: nn.Module) -> None:
    net.get_submodule("lm_head").weight = net.get_parameter("embedding.token.weight")


def _leave_out_a_norm(net: nn.Module) -> None:
    net.get_submodule("blocks.1").norm1 = nn.Identity()


def _leave_out_the_final_norm(net: nn.Module) -> None:
    net.final_norm = nn.Identity()


def _add_a_bias(net: nn.Module) -> None:
    net.get_submodule("blocks.1.attention.qkv").bias = nn.Parameter(torch.ones(96, dtype=torch.float64))


def _normalize_queries(net: nn.Module) -> None:
    net.get_submodule("blocks.1.attention").qk_norm = nn.LayerNorm(8, elementwise_affine=False)


def _change_an_eps(net: nn.Module) -> None:
    net.get_submodule("blocks.1.norm2").eps = 0.5


def _change_the_scale(net: nn.Module) -> None:
    net.get_submodule("blocks.1.attention").scale = 0.1


def _drop_the_residual(net: nn.Module) -> None:
    net.get_submodule("blocks.2").residual = False


def _other_activation(net: nn.Module) -> None:
    net.get_submodule("blocks.1.mlp")[1] = nn.GELU()


def _patch_a_forward(net: nn.Module) -> None:
    part = net.get_submodule("blocks.1.mlp")
    plain_forward = part.forward
    part.forward = lambda x: 2 * plain_forward(x)


def _prune_queries(net: nn.Module) -> None:
    prune.l1_unstructured(net.get_submodule("blocks.1.attention.qkv"), "weight", amount=0.5)


CHANGES = [
    _share_a_part,
    _share_a_weight,
    _tie_the_head,
    _leave_out_a_norm,
    _leave_out_the_final_norm,
    _add_a_bias,
    _normalize_queries,
    _change_an_eps,
    _change_the_scale,
    _drop_the_residual,
    _other_activation,
    _patch_a_forward,
    _prune_queries,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_network_that_is_changed_after_a_step_computes_what_the_plain_one_does(
    change: Callable[[nn.Module], None],
) -> None:
    plain, fast = both(build_rung("layernorm").double())
    idx = torch.randint(VOCAB, (4, 8))
    assert uses_compiled_pass(fast, idx)
    for net in (plain, fast):
        change(net)
    for _ in range(2):
        assert not uses_compiled_pass(fast, idx)
        pairs = zip(logits_and_gradients(fast, idx), logits_and_gradients(plain, idx), strict=True)
        for actual, expected in pairs:
            torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def test_dropout_that_is_switched_on_later_is_drawn() -> None:
    _, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (4, 8))
    fast.get_submodule("blocks.1.attention").dropout = 0.5
    assert not uses_compiled_pass(fast, idx)
    assert not torch.equal(fast(idx), fast(idx))


def test_a_hook_that_only_observes_sees_every_output_and_changes_no_bit() -> None:
    _, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (4, 8))
    expected = logits_and_gradients(fast, idx)
    seen: list[int] = []

    def hook(*_: object) -> None:
        seen.append(1)

    vars(hook)["only_observes"] = True
    fast.get_submodule("blocks.1.mlp.0").register_forward_hook(hook)
    assert all(map(torch.equal, logits_and_gradients(fast, idx), expected))
    assert seen == [1]


def test_a_global_hook_sees_every_module() -> None:
    _, fast = both(build_rung("layernorm"))
    seen: list[type] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    fast(torch.zeros(1, 8, dtype=torch.long))
    handle.remove()
    assert seen.count(nn.LayerNorm) == 7


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated.*")
def test_a_trace_records_every_operation() -> None:
    _, fast = both(build_rung("multihead"))
    first, second = torch.randint(VOCAB, (2, 4, 8))
    traced = torch.jit.trace(fast, first, check_trace=False)
    torch.testing.assert_close(traced(second), fast(second))


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"norm_position": "post"}, {"tie_weights": True}, MODERN, LLAMA])
def test_a_network_with_other_parts_stays_as_it_is(options: dict[str, object]) -> None:
    net = build_gpt(**options)
    speed.use_fast_kernels(net, "auto")
    assert type(net) is GPT


def test_autocast_takes_the_plain_path() -> None:
    _, fast = both(build_rung("layernorm"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_compiled_pass(fast, torch.zeros(1, 8, dtype=torch.long))


def test_it_is_described_as_a_gpt_and_copies_and_pickles() -> None:
    plain, fast = both(build_rung("layernorm"))
    idx = torch.randint(VOCAB, (4, 8))
    expected = fast(idx)
    assert describe_net(fast) == describe_net(plain)
    assert type(build_net(describe_net(fast) or {})) is GPT
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert uses_compiled_pass(other, idx)
        assert torch.equal(other(idx), expected)


def test_its_memory_is_freed_with_it() -> None:
    _, fast = both(build_rung("multihead"))
    fast(torch.zeros(1, 8, dtype=torch.long)).sum().backward()
    assert fast in numba_gpt._snapshots
    alive = weakref.ref(fast)
    del fast
    gc.collect()
    assert alive() is None


def test_a_user_s_subclass_is_not_touched() -> None:
    class Mine(GPT):
        pass

    net = Mine()
    use_numba_gpt(net)
    assert type(net) is Mine
