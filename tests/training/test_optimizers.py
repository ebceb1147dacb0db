"""Optimizers that treat kinds of parameters differently, alone and with a schedule."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from gptladder.model.loss import next_token_loss
from gptladder.training.optimizers import CombinedOptimizer, adamw_with_decay_groups, muon
from gptladder.training.schedulers import linear
from helpers.networks import MODERN, MUON, VOCAB, build_gpt

Batch = tuple[Tensor, Tensor]


def parameter_names(net: nn.Module) -> tuple[set[str], set[str]]:
    """The parameters that Muon and that AdamW optimize."""
    optimizers = muon(net.named_parameters(), **MUON).optimizers
    name_of = {parameter: name for name, parameter in net.named_parameters()}
    by_muon, by_adamw = (
        {name_of[p] for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers
    )
    return by_muon, by_adamw


def test_muon_optimizes_the_matrices_in_blocks_and_adamw_the_rest() -> None:
    net = build_gpt(tie_weights=True, n_prev_tokens=2, bigram_embedding=True)
    by_muon, by_adamw = parameter_names(net)
    names = {name for name, _ in net.named_parameters()}
    assert by_muon | by_adamw == names
    assert by_muon == {
        name for name in names if name.startswith("blocks.") and "norm" not in name and not name.endswith("bias")
    }
    embeddings = {f"embedding.{name}.weight" for name in ("token", "previous.table", "bigram.table")}
    assert embeddings | {"final_norm.weight"} <= by_adamw


def test_gains_and_biases_have_no_weight_decay() -> None:
    net = build_gpt()
    with_decay, without = adamw_with_decay_groups(net.named_parameters(), lr=1e-3, weight_decay=0.1).param_groups
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in with_decay["params"]} == {2}
    assert {p.dim() for p in without["params"]} == {1}


def build_training() -> tuple[nn.Module, CombinedOptimizer, LRScheduler]:
    """A network, its optimizer and its schedule."""
    net = build_gpt(**MODERN)
    optimizer = muon(net.named_parameters(), **MUON)
    return net, optimizer, linear(optimizer, max_steps=8, warmup_steps=2, min_lr_ratio=0.0)


def train(net: nn.Module, optimizer: CombinedOptimizer, schedule: LRScheduler, batches: list[Batch]) -> list[Tensor]:
    for x, y in batches:
        optimizer.zero_grad()
        next_token_loss(net(x), y).backward()
        optimizer.step()
        schedule.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


def test_a_resumed_combined_optimizer_gives_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [(torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))) for _ in range(8)]
    uninterrupted = train(*build_training(), batches)
    first = build_training()
    train(*first, batches[:3])
    torch.save([part.state_dict() for part in first], tmp_path / "state.pt")
    second = build_training()
    for part, state in zip(second, torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    resumed = train(*second, batches[3:])
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted, resumed, strict=True))


def test_a_schedule_changes_the_lr_of_both_optimizers() -> None:
    _, optimizer, schedule = build_training()
    lrs = []
    for _ in range(9):
        lrs.append([part.param_groups[0]["lr"] for part in optimizer.optimizers])
        optimizer.step()
        schedule.step()
    factors = [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    torch.testing.assert_close(torch.tensor(lrs), torch.tensor([[0.02 * f, 0.01 * f] for f in factors]))


def test_a_combined_optimizer_equals_its_parts() -> None:
    x, y = torch.randint(VOCAB, (4, 8)), torch.randint(VOCAB, (4, 8))
    combined, separate = build_gpt(**MODERN), build_gpt(**MODERN)
    by_muon, _ = parameter_names(separate)
    optimizers = [
        torch.optim.Muon([p for name, p in separate.named_parameters() if name in by_muon], lr=0.02, weight_decay=0.01),
        torch.optim.AdamW(
            [p for name, p in separate.named_parameters() if name not in by_muon],
            lr=0.01,
            weight_decay=0.01,
            betas=(0.9, 0.99),
        ),
    ]
    for net, parts in ((combined, [muon(combined.named_parameters(), **MUON)]), (separate, optimizers)):
        for _ in range(3):
            net.zero_grad()
            next_token_loss(net(x), y).backward()
            for optimizer in parts:
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(combined.parameters(), separate.parameters(), strict=True))
