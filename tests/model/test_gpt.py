"""Claims about the rungs as functions of their input."""

import math

import numba
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from gptladder.fast.numba_attention import ShortAttention, compiled
from gptladder.model.attention import SHORT_CONTEXT, Attention, attention_weights
from gptladder.model.gpt import GPT, count_parameters
from gptladder.system.errors import UserError
from helpers.configs import RUNGS, composed

VOCAB = 65
SMALL_GPT = ["model.n_layer=2", "model.n_embd=48", "model.block_size=32"]


def fresh(rung: str, *overrides: str, seed: int = 1337) -> nn.Module:
    """A rung as the protocol initialises it; ``gpt`` scaled down, since its size is not what is tested."""
    torch.manual_seed(seed)
    sizes = SMALL_GPT if rung == "gpt" else []
    return instantiate(composed(f"model={rung}", *sizes, *overrides).model, vocab_size=VOCAB)


@pytest.mark.parametrize("rung", RUNGS)
def test_no_rung_sees_the_future(rung: str) -> None:
    net = fresh(rung).eval()
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    next(module for module in net.modules() if isinstance(module, nn.Embedding)).register_forward_hook(keep)
    logits = net(torch.randint(VOCAB, (2, 8)))
    for t in range(8):
        (gradient,) = torch.autograd.grad(logits[:, t].sum(), seen[0], retain_graph=True)
        assert gradient[:, t].abs().sum() > 0
        assert gradient[:, t + 1 :].abs().sum() == 0


@pytest.mark.parametrize("rung", RUNGS)
def test_logits_have_a_row_per_token_at_every_length(rung: str) -> None:
    net = fresh(rung).eval()
    for length in (1, 5, 8):
        assert net(torch.randint(VOCAB, (3, length))).shape == (3, length, VOCAB)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_fresh_rung_is_not_much_worse_than_guessing(rung: str) -> None:
    idx = torch.randint(VOCAB, (64, 9))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(fresh(rung).eval()(idx[:, :-1]).flatten(0, 1), idx[:, 1:].flatten())
    # Guessing costs ln 65 = 4.17; a bigram's table of unit normals adds half its variance, the residual rung most.
    assert math.log(VOCAB) - 0.1 < loss < math.log(VOCAB) + 0.75


@pytest.mark.parametrize(
    ("rung", "params"),
    [("bigram", 4225), ("embedding", 4225), ("singlehead", 4977), ("multihead", 7553), ("feedforward", 8609)],
)
def test_rungs_have_the_lectures_parameters(rung: str, params: int) -> None:
    assert count_parameters(fresh(rung)) == params


def test_the_gpt_has_10788929_parameters() -> None:
    with torch.device("meta"):
        assert count_parameters(instantiate(composed("model=gpt").model, vocab_size=VOCAB)) == 10_788_929


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("n_head", "head_size", "length"), [(1, 16, 8), (4, 8, 8), (4, 8, 3), (6, 64, 64)])
def test_all_ways_to_attend_give_the_same_numbers(scale: bool, n_head: int, head_size: int, length: int) -> None:
    torch.manual_seed(0)
    attention = Attention(32, block_size=64, n_head=n_head, head_size=head_size, scale=scale, dropout=0.0)
    x = torch.randn(2, length, 32, requires_grad=True)
    explicit, *others = [way(attention.packed(x)) for way in (attention.explicit, attention.fused, attention.short)]
    (expected,) = torch.autograd.grad(explicit.square().sum(), x, retain_graph=True)
    for y in others:
        torch.testing.assert_close(y, explicit, atol=1e-5, rtol=1e-5)
        (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
        torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gradient_by_hand_is_that_of_the_numbers(dropout: float) -> None:
    torch.manual_seed(0)
    packed = torch.randn(2, 5, 3 * 2 * 3, dtype=torch.float64, requires_grad=True)

    def attended(packed: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)  # the same weights are dropped each time
        return ShortAttention.apply(packed, 2, 0.7, dropout)

    assert torch.autograd.gradcheck(attended, packed)


def test_scores_far_apart_are_no_danger_to_a_short_context() -> None:
    packed = 1e4 * torch.randn(2, 8, 3 * 8)
    assert ShortAttention.apply(packed, 1, 1.0, 0.0).isfinite().all()


def test_loops_are_compiled_also_where_no_place_can_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def double(out: np.ndarray) -> None:
        out *= 2

    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(double)
    numbers = np.ones(3)
    compiled(double)(numbers)
    assert numbers.tolist() == [2, 2, 2]


def test_each_context_takes_its_way_to_attend() -> None:
    def way(block_size: int, **options: bool) -> str:
        attention = Attention(8, block_size=block_size, n_head=1, head_size=8, scale=True, dropout=0.0, **options)
        return attention.attend.__name__

    assert [way(SHORT_CONTEXT), way(SHORT_CONTEXT + 1)] == ["short", "fused"]
    assert [way(SHORT_CONTEXT, rotary=True), way(SHORT_CONTEXT, qk_norm=True)] == ["fused", "fused"]
    assert way(SHORT_CONTEXT + 1, fused=False) == "explicit"


@pytest.mark.parametrize("length", [8, 64])
def test_attention_drops_weights_in_training_only(length: int) -> None:
    torch.manual_seed(0)
    attention = Attention(32, block_size=length, n_head=4, head_size=8, scale=True, dropout=0.5)
    x = torch.randn(2, length, 32)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


@pytest.mark.parametrize("rung", RUNGS)
def test_attention_weights_are_a_distribution_over_the_past(rung: str) -> None:
    net = fresh(rung).eval()
    maps = attention_weights(net, torch.randint(VOCAB, (8,)))
    assert len(maps) == len([module for module in net.modules() if hasattr(module, "weights")])
    assert (len(maps) > 0) == (rung not in ("bigram", "embedding"))
    for heads in maps:
        assert heads.shape[1:] == (8, 8)
        torch.testing.assert_close(heads.sum(dim=-1), torch.ones(heads.shape[:2]))
        assert heads.triu(1).abs().sum() == 0


def test_unscaled_scores_are_sharper() -> None:
    maps = [
        attention_weights(fresh("multihead", f"model.scale={scale}").eval(), torch.arange(8))[0] for scale in (1, 0)
    ]
    entropy = [-(weights * weights.clamp_min(1e-9).log()).sum() for weights in maps]
    assert entropy[1] < entropy[0]


def test_packed_weights_are_the_draws_of_single_heads() -> None:
    torch.manual_seed(3)
    attention = Attention(32, block_size=8, n_head=2, head_size=8, scale=True, dropout=0.0)
    torch.manual_seed(3)
    key, query, value = (nn.Linear(32, 8, bias=False).weight for _ in range(3))
    packed = attention.query_key_value.view(3, 2, 8, 32)
    for role, draw in zip(packed[:, 0], (query, key, value), strict=True):
        assert torch.equal(role, draw)


def test_norm_position_decides_where_layernorm_stands() -> None:
    def norms(position: str) -> list[str]:
        net = fresh("layernorm", f"model.norm_position={position}")
        return [name for name, module in net.named_modules() if isinstance(module, nn.LayerNorm)]

    assert norms("none") == []
    assert len(norms("pre")) == 7
    assert "norm" in norms("pre")
    assert len(norms("post")) == 6
    assert "norm" not in norms("post")


def test_a_switch_that_is_off_is_an_absent_part() -> None:
    residual = fresh("residual")
    assert not [module for module in residual.modules() if isinstance(module, nn.LayerNorm | nn.Dropout)]
    assert isinstance(residual.get_submodule("norm"), nn.Identity)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.n_embd=33"], ["n_embd=33", "n_head=4", "n_embd=32"]),
        (["model.n_head=0"], ["n_head=0"]),
        (["model.n_layer=-1"], ["n_layer=-1"]),
        (["model.block_size=0"], ["block_size=0"]),
        (["model.dropout=1"], ["dropout=1"]),
        (["model.norm_position=middle"], ["norm_position=middle", "pre", "post"]),
        (["model.attention=max"], ["attention=max", "softmax"]),
        (["model.n_layer=2", "model.head_size=4"], ["head_size=4", "n_embd=32", "projection=true"]),
    ],
)
def test_sizes_that_do_not_fit_are_named_with_the_remedy(overrides: list[str], words: list[str]) -> None:
    model = {**composed("model=multihead", *overrides).model}
    del model["_target_"]
    with pytest.raises(UserError) as mistake:
        GPT(**model, vocab_size=VOCAB)
    assert all(word in str(mistake.value) for word in words)
