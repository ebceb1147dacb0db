"""The count of operations: by hand, by PyTorch's own counter, and by the formula of PaLM and nanoGPT."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gptladder.model import GPT, Bigram
from gptladder.model.flops import training_flops_per_token
from gptladder.model.gpt import count_parameters
from gptladder.model.loss import next_token_loss
from helpers.configs import RUNGS
from helpers.networks import VOCAB, build_rung


def test_one_layer_by_hand() -> None:
    net = GPT(vocab_size=10, block_size=4, n_embd=6, n_layer=1, n_head=3)
    queries_keys_values, projection = 6 * 18, 6 * 6
    feedforward, head = 6 * 24 + 24 * 6, 6 * 10
    scores_and_sums = 2 * (6 * 4)  # 3 heads of 2 channels with each of 4 tokens, twice
    multiplications = queries_keys_values + projection + feedforward + head + scores_and_sums
    assert training_flops_per_token(net, 4) == 3 * 2 * multiplications == 3_240


def test_a_table_multiplies_nothing() -> None:
    assert training_flops_per_token(Bigram(), 8) == 0


@pytest.mark.parametrize("rung", RUNGS)
def test_pytorch_counts_the_same_for_every_rung(rung: str) -> None:
    # Its fused attention is counted in other ways: the backward pass computes the scores again.
    sdpa = [] if rung == "bigram" else ["model.sdpa=false"]
    net = build_rung(rung, *sdpa).train()
    n_time = net.block_size
    assert isinstance(n_time, int)
    tokens = torch.randint(VOCAB, (2, n_time + 1))
    with FlopCounterMode(display=False) as counter:
        next_token_loss(net(tokens[:, :-1]), tokens[:, 1:]).backward()  # type: ignore[no-untyped-call]
    assert counter.get_total_flops() == 2 * n_time * training_flops_per_token(net, n_time)
    assert (counter.get_total_flops() > 0) == (rung != "bigram")


def test_the_count_is_that_of_palm_and_nanogpt() -> None:
    net = build_rung("nanogpt")
    assert isinstance(net, GPT)
    gains = sum(module.weight.numel() for module in net.modules() if isinstance(module, nn.LayerNorm))
    positions = net.arguments["block_size"] * net.arguments["n_embd"]
    n = count_parameters(net) - positions - gains  # nanoGPT counts the gains too, which changes 0.1 %
    layers, channels, time = (net.arguments[key] for key in ("n_layer", "n_embd", "block_size"))
    assert training_flops_per_token(net, time) == 6 * n + 12 * layers * channels * time
