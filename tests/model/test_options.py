"""Options of the GPT beyond the lecture."""

import pytest
import torch
from torch import nn

from gptladder.model.attention import CausalSelfAttention
from gptladder.model.block import SwiGLU
from gptladder.model.embeddings import BigramEmbedding, InputEmbedding, PreviousTokenEmbedding
from gptladder.model.gpt import GPT, count_parameters
from gptladder.model.init import EMBEDDING_STD, output_projections
from gptladder.model.kv_cache import KVCache
from gptladder.model.loss import next_token_loss
from gptladder.model.rotary import RotaryEmbedding
from gptladder.system.errors import UserError
from gptladder.training.optimizers import muon
from helpers.networks import LLAMA, MODERN, MUON, VOCAB, build_gpt

OPTIONS = [
    {"bias": False},
    {"norm_affine": False},
    {"activation": "gelu"},
    {"activation": "relu2"},
    {"activation": "gelu_tanh"},
    {"activation": "swiglu"},
    {"activation": "swiglu", "expansion": 1},
    {"hidden_size": 20},
    {"qkv_bias": True},
    {"head_bias": False},
    {"norm": "rmsnorm"},
    {"norm": "rmsnorm", "norm_position": "post"},
    {"n_kv_head": 2},
    {"n_kv_head": 1, "block_size": 32},
    {"tie_weights": True},
    {"rope": True},
    {"rope": True, "rope_theta": 500_000.0},
    {"qk_norm": True},
    {"qk_norm": True, "norm": "rmsnorm"},
    {"sdpa": False, "block_size": 32},
    {"n_prev_tokens": 1},
    {"n_prev_tokens": 9},
    {"bigram_embedding": True},
    {"init": "gpt2"},
    MODERN,
    LLAMA,
    LLAMA | {"block_size": 32},
]


def build_noisy_gpt(**options: object) -> GPT:
    """The same as ``build_gpt`` with noise on every weight, because zeros would hide an error."""
    net = build_gpt(**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_option_sees_the_future_and_each_sees_the_past(options: dict[str, object]) -> None:
    net = build_noisy_gpt(**options).eval()
    idx = torch.randint(VOCAB, (4, 8))
    logits = net(idx)
    for t in range(8):
        other = idx.clone()
        other[:, t] = (other[:, t] + 1) % VOCAB
        changed = (net(other) - logits).abs().amax(dim=(0, 2)) > 1e-6
        assert not changed[:t].any()
        assert changed[t:].all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_of_a_prefix_equal_those_of_the_whole(options: dict[str, object]) -> None:
    net = build_noisy_gpt(**options).eval()
    idx = torch.randint(VOCAB, (3, 8))
    for length in (1, 2, 5, 8):
        torch.testing.assert_close(net(idx[:, :length]), net(idx)[:, :length])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_learns(options: dict[str, object]) -> None:
    net = build_gpt(**options)
    optimizer = muon(net.named_parameters(), **MUON)
    x, y = torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))
    losses = []
    for _ in range(10):
        losses.append(next_token_loss(net(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_defaults_of_the_options_are_those_of_the_lecture() -> None:
    net = build_gpt(
        bias=True,
        norm_affine=True,
        activation="relu",
        tie_weights=False,
        rope=False,
        qk_norm=False,
        n_prev_tokens=0,
        bigram_embedding=False,
        init="torch_default",
    )
    idx = torch.randint(VOCAB, (2, 8))
    assert torch.equal(build_gpt()(idx), net(idx))


def test_rotary_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    rotate = RotaryEmbedding(block_size=16, head_size=8)
    q, k = (torch.randn(8).expand(16, 8) for _ in range(2))
    scores = rotate(q) @ rotate(k).T
    for distance in range(-15, 16):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)
    assert scores.diagonal(0)[0] != scores.diagonal(1)[0]


def test_rotation_keeps_norms_and_the_first_position() -> None:
    x = torch.randn(2, 16, 8)
    rotate = RotaryEmbedding(block_size=16, head_size=8)
    rotated = rotate(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotated[:, 0], x[:, 0])
    assert torch.equal(rotate(x[:, 5:], start=5), rotated[:, 5:])


@pytest.mark.parametrize("rope", [True, False])
def test_normalized_queries_and_keys_have_unit_size(rope: bool) -> None:
    attention = CausalSelfAttention(
        32,
        block_size=8,
        n_head=4,
        head_size=8,
        scale=True,
        dropout=0.0,
        projection=False,
        bias=True,
        qk_norm=nn.LayerNorm(8, elementwise_affine=False),
        rope=RotaryEmbedding(block_size=8, head_size=8) if rope else None,
    )
    x = 3 * torch.randn(2, 8, 32)
    q, k, v = attention.split_heads(attention.qkv(x))
    for normalized in (q, k):  # a root mean square of one is a norm of sqrt(D)
        torch.testing.assert_close(normalized.norm(dim=-1) / 8**0.5, torch.ones(2, 4, 8), atol=1e-2, rtol=1e-2)
    assert (v.norm(dim=-1) / 8**0.5 - 1).abs().mean() > 0.1


def test_shared_heads_give_what_as_many_heads_with_equal_weights_give() -> None:
    sizes = {"n_embd": 32, "block_size": 32, "head_size": 8, "scale": True, "dropout": 0.0}
    plain = {"projection": False, "bias": False}
    shared = CausalSelfAttention(**sizes, **plain, n_head=4, n_kv_head=2)
    full = CausalSelfAttention(**sizes, **plain, n_head=4)
    query, key, value = shared.qkv.weight.split([32, 16, 16])
    repeated = [part.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1) for part in (key, value)]
    full.qkv.weight = nn.Parameter(torch.cat([query, *repeated]))
    x = torch.randn(3, 20, 32)
    torch.testing.assert_close(shared(x), full(x))
    torch.testing.assert_close(shared.weights(x), full.weights(x))
    shared.sdpa = False
    torch.testing.assert_close(shared(x), full(x))


def test_a_kv_cache_holds_the_shared_heads_only() -> None:
    net = build_gpt(n_head=4, n_kv_head=1, n_layer=1)
    cache = KVCache(8)
    net(torch.randint(VOCAB, (2, 5)), cache)
    assert {tuple(buffer.shape) for buffer in cache._buffers[net.blocks[0].attention]} == {(2, 1, 8, 8)}


def test_rmsnorm_divides_by_the_root_mean_square_and_subtracts_no_mean() -> None:
    norm = build_gpt(norm="rmsnorm", norm_eps=0.25).final_norm
    assert isinstance(norm, nn.RMSNorm)
    x = torch.tensor([[1.0, 3.0]]).repeat(1, 16)
    torch.testing.assert_close(norm(x), x / (5 + 0.25) ** 0.5)


def test_swiglu_scales_each_channel_by_the_silu_of_its_gate() -> None:
    swiglu = SwiGLU(2, 1, bias=False)
    swiglu.gate.weight = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    swiglu.up.weight = nn.Parameter(torch.tensor([[0.0, 3.0]]))
    gate = torch.tensor(2.0)
    torch.testing.assert_close(swiglu(torch.tensor([1.0, 5.0])), (gate * gate.sigmoid() * 15).view(1))


@pytest.mark.parametrize("n_embd", [48, 96, 384])
def test_swiglu_has_as_many_weights_as_an_ungated_feedforward(n_embd: int) -> None:
    gated = build_gpt(activation="swiglu", bias=False, n_embd=n_embd)
    assert count_parameters(gated) == count_parameters(build_gpt(bias=False, n_embd=n_embd))


def test_zero_residual_blocks_add_nothing_and_the_head_is_uniform() -> None:
    net = build_gpt(**MODERN, n_layer=3)
    x = torch.randn(2, 8, 32)
    for block in net.blocks:
        assert torch.equal(block(x), x)
    assert net(torch.randint(VOCAB, (2, 8))).abs().max() == 0
    assert net.embedding.bigram is not None
    assert net.embedding.bigram.table.weight.std().item() == pytest.approx(EMBEDDING_STD, rel=0.05)


def test_gpt2_weights_are_narrower_in_what_writes_into_the_residual_stream() -> None:
    net = build_gpt(init="gpt2", n_layer=8, n_embd=128, block_size=64)
    projections = list(output_projections(net))
    assert len(projections) == 16
    for projection in projections:
        assert projection.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    qkv = net.get_submodule("blocks.0.attention.qkv")
    for module in (net.lm_head, net.embedding.token, qkv):
        assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
    linears = [module for module in net.modules() if isinstance(module, nn.Linear)]
    assert all((linear.bias == 0).all() for linear in linears if linear.bias is not None)


def test_tied_weights_are_one_parameter() -> None:
    net = build_gpt(tie_weights=True)
    assert net.lm_head.weight is net.embedding.token.weight
    assert count_parameters(net) == count_parameters(build_gpt()) - VOCAB * 32


def test_without_biases_and_gains_all_parameters_are_matrices() -> None:
    assert {parameter.dim() for parameter in build_gpt(bias=False, norm_affine=False).parameters()} == {2}


def test_previous_tokens_have_one_vector_per_distance_and_one_for_the_start_of_the_block() -> None:
    embed = PreviousTokenEmbedding(VOCAB, 4, n_prev_tokens=2)
    two_back, one_back = embed.table.weight.view(2, VOCAB + 1, 4)
    expected = torch.stack(
        [
            one_back[VOCAB] + two_back[VOCAB],
            one_back[5] + two_back[VOCAB],
            one_back[6] + two_back[5],
        ]
    )
    torch.testing.assert_close(embed(torch.tensor([[5, 6, 7]]))[0], expected)


def test_each_pair_of_tokens_has_its_own_vector() -> None:
    embed = BigramEmbedding(VOCAB, 4)
    rows = embed.table.weight.view(VOCAB + 1, VOCAB, 4)
    expected = torch.stack([rows[VOCAB, 5], rows[5, 6], rows[6, 5]])
    torch.testing.assert_close(embed(torch.tensor([[5, 6, 5]]))[0], expected)


def test_all_embeddings_of_a_token_are_summed() -> None:
    embed = InputEmbedding(VOCAB, 8, 4, positions=True, n_prev_tokens=2, bigram_embedding=True)
    assert embed.position is not None
    assert embed.previous is not None
    assert embed.bigram is not None
    idx = torch.tensor([[5, 6, 7]])
    expected = embed.token(idx) + embed.position.weight[:3] + embed.previous(idx) + embed.bigram(idx)
    torch.testing.assert_close(embed(idx), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "swish"}, ["activation=swish", "gelu"]),
        ({"init": "ones"}, ["init=ones", "gpt2"]),
        ({"init": "zero_residual", "residual": False}, ["init=zero_residual", "residual=true"]),
        ({"n_prev_tokens": -1}, ["n_prev_tokens=-1"]),
        ({"n_layer": 10**8}, ["n_layer=100000000", "at most 1000"]),
        ({"n_prev_tokens": 10**8}, ["n_prev_tokens=100000000", "at most 1000"]),
        ({"n_embd": 4 * 10**7}, ["n_embd=40000000", "GB"]),
        ({"expansion": 10**9}, ["expansion=1000000000", "GB"]),
        ({"block_size": 10**11}, ["block_size=100000000000", "GB"]),
        ({"block_size": 10**6}, ["block_size=1000000", "GB for weights and causal masks"]),
        ({"rope": True, "n_head": 1, "head_size": 3}, ["rope=true", "even", "3"]),
        ({"rope": True, "rope_theta": 0}, ["rope_theta=0", "> 0"]),
        ({"norm": "batchnorm"}, ["norm=batchnorm", "rmsnorm"]),
        ({"norm_eps": -1e-5}, ["norm_eps=-1e-05", "> 0"]),
        ({"norm_eps": float("nan")}, ["norm_eps=nan", "> 0"]),
        ({"n_kv_head": 3}, ["n_kv_head=3", "n_head=4", "1, 2, 4"]),
        ({"n_kv_head": 8}, ["n_kv_head=8", "1, 2, 4"]),
        ({"n_kv_head": 0}, ["n_kv_head=0"]),
        ({"n_kv_head": 2, "attention": "mean"}, ["attention=mean", "n_kv_head=null"]),
        ({"hidden_size": 0}, ["hidden_size=0"]),
        ({"hidden_size": 64, "expansion": 0}, ["expansion=0", "hidden_size=null"]),
        ({"hidden_size": 10**11}, ["hidden_size=100000000000", "GB"]),
        (
            {"tie_weights": True, "n_layer": 1, "head_size": 4, "projection": False, "residual": False},
            ["tie_weights=true", "32"],
        ),
    ],
)
def test_options_that_do_not_fit_are_named_with_the_remedy(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build_gpt(**options)
    assert all(word in str(error.value) for word in words)
