"""The rungs as functions of their input, their sizes, and their initial weights."""

import copy
import inspect
import math
import pickle

import pytest
import torch
from hydra.utils import instantiate
from lecture import Net, Settings
from torch import Tensor, nn

from gptladder.model import GPT, Bigram
from gptladder.model.gpt import build_net, count_parameters, describe_net
from gptladder.model.loss import next_token_loss
from gptladder.system.errors import UserError
from helpers.configs import RUNGS, composed
from helpers.networks import VOCAB, build_rung

# The rungs of `scripts/baselines/lecture.py`.
LECTURE_RUNGS = [
    "bigram",
    "embedding",
    "singlehead",
    "multihead",
    "feedforward",
    "blocks",
    "residual",
    "layernorm",
]


@pytest.mark.parametrize("rung", RUNGS)
def test_no_rung_sees_the_future(rung: str) -> None:
    net = build_rung(rung).eval()
    embeddings: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        embeddings.append(output.detach().requires_grad_())
        return embeddings[0]

    next(module for module in net.modules() if isinstance(module, nn.Embedding)).register_forward_hook(keep)
    logits = net(torch.randint(VOCAB, (2, 8)))
    for t in range(8):
        (gradient,) = torch.autograd.grad(logits[:, t].sum(), embeddings[0], retain_graph=True)
        assert gradient[:, t].abs().sum() > 0
        assert gradient[:, t + 1 :].abs().sum() == 0


@pytest.mark.parametrize("rung", RUNGS)
def test_logits_have_one_row_per_token_at_every_length(rung: str) -> None:
    net = build_rung(rung).eval()
    for length in (1, 5, 8):
        assert net(torch.randint(VOCAB, (3, length))).shape == (3, length, VOCAB)


@pytest.mark.parametrize("rung", RUNGS)
def test_initial_loss_is_close_to_that_of_a_uniform_guess(rung: str) -> None:
    idx = torch.randint(VOCAB, (64, 9))
    with torch.no_grad():
        loss = next_token_loss(build_rung(rung).eval()(idx[:, :-1]), idx[:, 1:])
    # A uniform guess has a loss of ln 65 = 4.17. The logits of a bigram are unit normals, which add half their
    # variance; `residual` adds most.
    assert math.log(VOCAB) - 0.1 < loss < math.log(VOCAB) + 0.75


@pytest.mark.parametrize(
    ("rung", "params"),
    [("bigram", 4225), ("embedding", 4225), ("singlehead", 4977), ("multihead", 7553), ("feedforward", 8609)],
)
def test_rungs_have_as_many_parameters_as_in_the_lecture(rung: str, params: int) -> None:
    assert count_parameters(build_rung(rung)) == params


def test_gpt_has_10788929_parameters() -> None:
    with torch.device("meta"):
        assert count_parameters(instantiate(composed("model=gpt").model, vocab_size=VOCAB)) == 10_788_929


def lecture_weights(net: Net) -> dict[str, Tensor]:
    """The weights of the lecture's network under the names of ours; the heads of a layer become one matrix."""
    state = net.state_dict()
    if net.rung == "bigram":
        return {"table.weight": state["token.weight"]}
    weights = {"embedding.token.weight": state["token.weight"]}
    if net.rung != "embedding":
        weights["embedding.position.weight"] = state["position.weight"]
        for i, layer in enumerate(net.layers):
            parts = [getattr(head, role).weight for role in ("query", "key", "value") for head in layer.heads]
            weights[f"blocks.{i}.attention.qkv.weight"] = torch.cat(parts)
        for name, tensor in state.items():
            name = name.replace("layers.", "blocks.").replace("feedforward.", "mlp.")
            name = name.replace("projection.", "attention.projection.")
            if name.startswith("norm."):
                weights[f"final_{name}"] = tensor
            elif name.startswith("blocks.") and ".heads." not in name:
                weights[name] = tensor
    return weights | {f"lm_head.{name}": state[f"lm_head.{name}"] for name in ("weight", "bias")}


@pytest.mark.parametrize("rung", LECTURE_RUNGS)
def test_initial_weights_of_seed_1337_are_those_of_the_lecture(rung: str) -> None:
    torch.manual_seed(1337)
    lecture = Net(Settings(rung), VOCAB)
    after_lecture = torch.get_rng_state()
    net = build_rung(rung, seed=1337)
    assert torch.equal(torch.get_rng_state(), after_lecture)  # the first batch is the same as well
    expected, weights = lecture_weights(lecture), net.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    idx = torch.randint(VOCAB, (4, 8))
    torch.testing.assert_close(net(idx), lecture(idx), atol=1e-5, rtol=1e-5)


def test_defaults_are_the_full_small_model() -> None:
    torch.manual_seed(1337)
    net = GPT(vocab_size=65, block_size=8)
    layernorm = build_rung("layernorm").state_dict()
    assert net.state_dict().keys() == layernorm.keys()
    assert all(torch.equal(tensor, layernorm[name]) for name, tensor in net.state_dict().items())
    for kind in (GPT, Bigram):
        assert all(p.default is not p.empty for p in inspect.signature(kind).parameters.values())
        assert kind()(torch.zeros(1, 8, dtype=torch.long)).shape == (1, 8, 65)


ALL_OPTIONS = {"rope": True, "qk_norm": True, "n_prev_tokens": 2, "bigram_embedding": True, "tie_weights": True}


@pytest.mark.parametrize("net", [Bigram(), GPT(), GPT(dropout=0.2, **ALL_OPTIONS)], ids=["bigram", "gpt", "options"])
def test_networks_can_be_copied_and_pickled(net: GPT | Bigram) -> None:
    net = copy.deepcopy(net).eval()
    idx = torch.randint(65, (2, 8))
    for clone in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(clone(idx), net(idx))
        assert clone.arguments == net.arguments
        next(clone.parameters()).data.zero_()
        assert not torch.equal(clone(idx), net(idx))  # it has weights of its own


@pytest.mark.parametrize("rung", RUNGS)
def test_a_network_is_rebuilt_from_its_description(rung: str) -> None:
    net = build_rung(rung)
    description = describe_net(net)
    assert description is not None
    rebuilt = build_net(description)
    rebuilt.load_state_dict(net.state_dict())
    assert type(rebuilt) is type(net)
    assert describe_net(rebuilt) == description
    assert describe_net(nn.Linear(2, 2)) is None


def test_norm_position_decides_where_layernorm_is() -> None:
    def norms(position: str) -> list[str]:
        net = build_rung("layernorm", f"model.norm_position={position}")
        return [name for name, module in net.named_modules() if isinstance(module, nn.LayerNorm)]

    assert norms("none") == []
    assert len(norms("pre")) == 7
    assert "final_norm" in norms("pre")
    assert len(norms("post")) == 6
    assert "final_norm" not in norms("post")


def test_a_disabled_option_has_no_module() -> None:
    residual = build_rung("residual")
    assert not [module for module in residual.modules() if isinstance(module, nn.LayerNorm | nn.Dropout)]
    assert isinstance(residual.get_submodule("final_norm"), nn.Identity)


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
def test_an_invalid_size_is_named_with_the_remedy(overrides: list[str], words: list[str]) -> None:
    model = {**composed("model=multihead", *overrides).model}
    del model["_target_"]
    with pytest.raises(UserError) as error:
        GPT(**model, vocab_size=VOCAB)
    assert all(word in str(error.value) for word in words)


def test_an_invalid_block_size_of_a_bigram_is_named() -> None:
    with pytest.raises(UserError, match="block_size=0"):
        Bigram(block_size=0)
