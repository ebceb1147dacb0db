"""Claims about what the model and its optimizer can do beyond the lecture."""

import copy

import pytest
import torch
from torch import Tensor, nn

from gptladder.model.attention import Attention
from gptladder.model.embeddings import TokenEmbedding, WithPairs, WithPrevious
from gptladder.model.gpt import GPT, count_parameters
from gptladder.model.init import NARROW, output_projections
from gptladder.model.loss import next_token_loss
from gptladder.model.rotary import Rotary
from gptladder.system.errors import UserError
from gptladder.training.optimizers import AdamW, CombinedOptimizer, adamw_with_decay_groups, muon
from gptladder.training.schedulers import linear
from helpers.configs import composed

VOCAB = 65
MODERN = {
    "bias": False,
    "norm_gain": False,
    "activation": "relu2",
    "rotary": True,
    "qk_norm": True,
    "n_previous": 2,
    "pairs": True,
    "init": "zero",
}
OPTIONS = [
    {"bias": False},
    {"norm_gain": False},
    {"activation": "gelu"},
    {"activation": "relu2"},
    {"tied": True},
    {"rotary": True},
    {"qk_norm": True},
    {"fused": False, "block_size": 32},
    {"n_previous": 1},
    {"n_previous": 9},
    {"pairs": True},
    {"init": "gpt2"},
    MODERN,
]
MUON = {"lr": 0.02, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.01, "adamw_lr": 0.01, "betas": (0.9, 0.99)}


def modern(**options: object) -> GPT:
    """The lecture's full small GPT with some options on, the same weights at each call."""
    lectures = {key: value for key, value in composed("model=layernorm").model.items() if key != "_target_"}
    torch.manual_seed(1337)
    return GPT(vocab_size=VOCAB, **{**lectures, **options})


def awake(**options: object) -> GPT:
    """The same, with noise on every weight, so that nothing is hidden behind a zero."""
    net = modern(**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_option_sees_the_future_and_each_sees_the_past(options: dict[str, object]) -> None:
    net = awake(**options).eval()
    idx = torch.randint(VOCAB, (4, 8))
    logits = net(idx)
    for t in range(8):
        other = idx.clone()
        other[:, t] = (other[:, t] + 1) % VOCAB
        changed = (net(other) - logits).abs().amax(dim=(0, 2)) > 1e-6
        assert not changed[:t].any()
        assert changed[t:].all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_have_a_row_per_token_at_every_length(options: dict[str, object]) -> None:
    net = awake(**options).eval()
    idx = torch.randint(VOCAB, (3, 8))
    for length in (1, 2, 5, 8):
        torch.testing.assert_close(net(idx[:, :length]), net(idx)[:, :length])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_learns(options: dict[str, object]) -> None:
    net = modern(**options)
    optimizer = muon(net.named_parameters(), **MUON)
    batch = torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))
    losses = []
    for _ in range(10):
        losses.append(next_token_loss(net, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_with_every_option_at_its_default_the_gpt_is_the_lectures() -> None:
    off = {"bias": True, "norm_gain": True, "activation": "relu", "tied": False, "rotary": False, "qk_norm": False}
    off["pairs"] = False
    idx = torch.randint(VOCAB, (2, 8))
    assert torch.equal(modern()(idx), modern(**off, n_previous=0, init="lecture")(idx))


def test_rotation_makes_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    rotate = Rotary(block_size=16, head_size=8)
    q, k = (torch.randn(8).expand(16, 8) for _ in range(2))
    scores = rotate(q) @ rotate(k).T
    for distance in range(-15, 16):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=1e-5)
    assert scores.diagonal(0)[0] != scores.diagonal(1)[0]


def test_rotation_keeps_lengths_and_leaves_the_first_place_alone() -> None:
    x = torch.randn(2, 16, 8)
    turned = Rotary(block_size=16, head_size=8)(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, 0], x[:, 0])


@pytest.mark.parametrize("rotary", [True, False])
def test_normalised_queries_and_keys_have_unit_size(rotary: bool) -> None:
    attention = Attention(32, block_size=8, n_head=4, head_size=8, scale=True, dropout=0.0, qk_norm=True, rotary=rotary)
    x = 3 * torch.randn(2, 8, 32)
    q, k, v = attention.heads(attention.packed(x))
    for normalised in (q, k):  # a root mean square of one: a length of sqrt(D)
        torch.testing.assert_close(normalised.norm(dim=-1) / 8**0.5, torch.ones(2, 4, 8), atol=1e-2, rtol=1e-2)
    assert (v.norm(dim=-1) / 8**0.5 - 1).abs().mean() > 0.1


def test_layers_that_begin_at_zero_add_nothing_and_the_head_guesses() -> None:
    net = modern(**MODERN, n_layer=3)
    x = torch.randn(2, 8, 32)
    for layer in net.layers:
        assert torch.equal(layer(x), x)
    assert net(torch.randint(VOCAB, (2, 8))).abs().max() == 0
    assert net.embedding.table.weight.std().item() == pytest.approx(NARROW, rel=0.05)


def test_gpt2s_draws_are_narrow_and_narrower_where_layers_add_up() -> None:
    net = modern(init="gpt2", n_layer=8, n_embd=128, block_size=64)
    writing = list(output_projections(net))
    assert len(writing) == 16
    for projection in writing:
        assert projection.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    for weight in (net.head.weight, net.embedding.token.weight, net.layers[0].attention.body[0].query_key_value):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(
        (part.bias == 0).all() for part in net.modules() if isinstance(part, nn.Linear) and part.bias is not None
    )


def test_a_tied_head_is_the_table_of_tokens() -> None:
    net = modern(tied=True)
    assert net.head.weight is net.embedding.token.weight
    assert count_parameters(net) == count_parameters(modern()) - VOCAB * 32


def test_without_biases_and_gains_only_matrices_are_left() -> None:
    assert {parameter.dim() for parameter in modern(bias=False, norm_gain=False).parameters()} == {2}


def test_previous_tokens_are_told_by_distance_and_the_start_of_a_block_is_known() -> None:
    embed = WithPrevious(TokenEmbedding(VOCAB, 8, 4, positions=False), VOCAB, 4, n_previous=2)
    idx = torch.tensor([[5, 6, 7]])
    rows = embed.table.weight.view(2, VOCAB + 1, 4)
    two_back, one_back = rows
    token = embed.here.token.weight
    expected = torch.stack(
        [
            token[5] + one_back[VOCAB] + two_back[VOCAB],
            token[6] + one_back[5] + two_back[VOCAB],
            token[7] + one_back[6] + two_back[5],
        ]
    )
    torch.testing.assert_close(embed(idx)[0], expected)


def test_every_pair_has_a_row_of_its_own() -> None:
    embed = WithPairs(TokenEmbedding(VOCAB, 8, 4, positions=False), VOCAB, 4)
    rows = embed.table.weight.view(VOCAB + 1, VOCAB, 4)
    token = embed.here.token.weight
    expected = torch.stack([token[5] + rows[VOCAB, 5], token[6] + rows[5, 6], token[5] + rows[6, 5]])
    torch.testing.assert_close(embed(torch.tensor([[5, 6, 5]]))[0], expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "swish"}, ["activation=swish", "gelu"]),
        ({"init": "ones"}, ["init=ones", "gpt2"]),
        ({"init": "zero", "residual": False}, ["init=zero", "residual=true"]),
        ({"n_previous": -1}, ["n_previous=-1"]),
        ({"rotary": True, "n_head": 1, "head_size": 3}, ["rotary=true", "even", "3"]),
        ({"tied": True, "n_layer": 1, "head_size": 4, "projection": False, "residual": False}, ["tied=true", "32"]),
    ],
)
def test_options_that_do_not_fit_are_named_with_the_remedy(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as mistake:
        modern(**options)
    assert all(word in str(mistake.value) for word in words)


def kinds(net: nn.Module) -> tuple[set[str], set[str]]:
    parts = muon(net.named_parameters(), **MUON).parts
    name_of = {parameter: name for name, parameter in net.named_parameters()}
    inner, rest = ({name_of[p] for group in part.param_groups for p in group["params"]} for part in parts)
    return inner, rest


def test_muon_takes_the_matrices_of_layers_and_adamw_everything_else() -> None:
    net = modern(tied=True, n_previous=2, pairs=True)
    inner, rest = kinds(net)
    assert inner | rest == {name for name, _ in net.named_parameters()}
    assert inner == {name for name in inner | rest if name.startswith("layers.") and "norm" not in name} - {
        name for name in inner | rest if name.endswith("bias")
    }
    assert {"embedding.here.here.token.weight", "embedding.table.weight", "norm.weight"} <= rest


def test_decay_spares_gains_and_biases() -> None:
    net = modern()
    decayed, spared = adamw_with_decay_groups(net.named_parameters(), lr=1e-3, weight_decay=0.1).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in spared["params"]} == {1}


def stepped(net: nn.Module, optimizer: torch.optim.Optimizer, schedule: object, batches: list[tuple[Tensor, Tensor]]):
    for batch in batches:
        optimizer.zero_grad()
        next_token_loss(net, batch).backward()
        optimizer.step()
        schedule.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def fresh_trio() -> tuple[nn.Module, CombinedOptimizer, object]:
    net = modern(**MODERN)
    optimizer = muon(net.named_parameters(), **MUON)
    return net, optimizer, linear(optimizer, max_steps=8, warmup_steps=2, final_fraction=0.0)


def test_a_reloaded_pair_of_optimizers_goes_on_with_the_same_bits(tmp_path) -> None:
    torch.manual_seed(0)
    batches = [(torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))) for _ in range(8)]
    straight = stepped(*fresh_trio(), batches)
    first = fresh_trio()
    stepped(*first, batches[:3])
    torch.save([part.state_dict() for part in first], tmp_path / "state.pt")
    second = fresh_trio()
    for part, state in zip(second, torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    ended = stepped(*second, batches[3:])
    assert all(torch.equal(a, b) for a, b in zip(straight, ended, strict=True))


def test_a_schedule_reaches_both_optimizers() -> None:
    _, optimizer, schedule = fresh_trio()
    rates = []
    for _ in range(9):
        rates.append([part.param_groups[0]["lr"] for part in optimizer.parts])
        optimizer.step()
        schedule.step()
    share = [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    torch.testing.assert_close(torch.tensor(rates), torch.tensor([[0.02 * s, 0.01 * s] for s in share]))


def test_two_optimizers_do_what_each_does_alone() -> None:
    batch = torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))
    together, apart = modern(**MODERN), modern(**MODERN)
    optimizer = muon(together.named_parameters(), **MUON)
    inner, _ = kinds(apart)
    alone = [
        torch.optim.Muon([p for name, p in apart.named_parameters() if name in inner], lr=0.02, weight_decay=0.01),
        torch.optim.AdamW(
            [p for name, p in apart.named_parameters() if name not in inner],
            lr=0.01,
            weight_decay=0.01,
            betas=(0.9, 0.99),
        ),
    ]
    for net, optimizers in ((together, [optimizer]), (apart, alone)):
        for _ in range(3):
            net.zero_grad()
            next_token_loss(net, batch).backward()
            for each in optimizers:
                each.step()
    assert all(torch.equal(a, b) for a, b in zip(together.parameters(), apart.parameters(), strict=True))


def test_adamw_moves_parameters_as_torchs_own_does_whatever_happens_in_between() -> None:
    """A parameter without a gradient, a state loaded, an optimizer gone on with: the same bits."""

    def moved(kind: type[torch.optim.AdamW]) -> list[Tensor]:
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(5, 3)) for _ in range(4)]
        groups = [{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
        optimizer = kind(groups, lr=1e-2, fused=True)
        for step in range(15):
            for i, parameter in enumerate(parameters):
                parameter.grad = None if i == 2 and step in (3, 4) else torch.randn(5, 3)
            optimizer.step()
            if step == 8:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = kind(groups, lr=1e-2, fused=True)
                optimizer.load_state_dict(state)
        return [*parameters, *(optimizer.state[parameter]["step"] for parameter in parameters)]

    ours, theirs = moved(AdamW), moved(torch.optim.AdamW)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
