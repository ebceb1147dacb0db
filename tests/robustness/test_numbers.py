"""What is no number never moves a weight and never reaches a file."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from gptladder.data.batches import Batch
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.training import lightning_module as learner
from gptladder.training.checkpoint_io import AtomicCheckpointIO
from gptladder.training.update import MOST_SKIPS, Update
from helpers.configs import trained
from helpers.processes import Warm
from helpers.runs import read, small


class Poison(torch.autograd.Function):
    """Itself on the way forward, and a gradient that is no number on the way back."""

    @staticmethod
    def forward(context: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.inf


# How a loss goes wrong: in itself, in itself but with finite gradients, in its gradients alone.
WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "loss nan": lambda loss: loss * torch.nan,
    "loss inf, gradients finite": lambda loss: loss + torch.inf,
    "gradient inf, loss finite": Poison.apply,
}


def poisoned(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Tensor], at: int) -> list[list[Tensor]]:
    """Make the loss of one training batch wrong; the weights before each batch."""

    seen: list[list[Tensor]] = []
    right = learner.next_token_loss

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        if not torch.is_grad_enabled():
            return right(net, batch)
        seen.append([parameter.detach().clone() for parameter in net.parameters()])
        poisoned.net = net  # type: ignore[attr-defined]
        return wrong(right(net, batch)) if len(seen) == at else right(net, batch)

    monkeypatch.setattr(learner, "next_token_loss", loss)
    return seen


def assert_all_finite(run: Path) -> None:
    checkpoints = list((run / "checkpoints").glob("*.ckpt"))
    for path in checkpoints:
        content = torch.load(path, weights_only=True)
        moments = [state for optimizer in content.get("optimizer_states", []) for state in optimizer["state"].values()]
        tensors = [*content["state_dict"].values(), *(value for state in moments for value in state.values())]
        assert all(tensor.isfinite().all() for tensor in tensors if isinstance(tensor, Tensor))


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("clip", ["null", "1.0"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_number_stops_the_run_before_the_update(
    kind: str, clip: str, accumulated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), "logger=none", f"trainer.gradient_clip_val={clip}")
    weights = poisoned(monkeypatch, WRONG[kind], at=5 * accumulated)
    with pytest.raises(FloatingPointError) as error:
        trained(tmp_path / "run", *words, f"trainer.accumulate_grad_batches={accumulated}")
    said = str(error.value)
    assert said.startswith("step 5: the loss" if "loss n" in kind or "loss i" in kind else "step 5: a gradient")
    (offsets,) = re.findall(r"blocks begin at ([\d, ]+) of the training split", said)
    assert len(offsets.split(",")) == 4 * accumulated
    net: nn.Module = poisoned.net  # type: ignore[attr-defined]
    assert all(torch.equal(now, then) for now, then in zip(net.parameters(), weights[-1], strict=True))
    assert read(tmp_path / "run")["status"] == "failed"
    assert said.split(";")[0] in read(tmp_path / "run")["error"]
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 4
    assert_all_finite(tmp_path / "run")
    tried(numbers_that_are_none=1)


@pytest.mark.parametrize("lr", [1e4, 1e30, 3e38])
def test_a_learning_rate_that_blows_the_weights_up_leaves_no_such_checkpoint(
    lr: float, tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(tmp_path), "logger=none", "model=multihead", f"optimizer.lr={lr}", "trainer.val_check_interval=1")
    with pytest.raises(FloatingPointError):
        trained(tmp_path / "run", *words, "trainer.max_steps=3000", "optimizer.weight_decay=1")
    assert read(tmp_path / "run")["status"] == "failed"
    assert_all_finite(tmp_path / "run")
    tried(numbers_that_are_none=1)


def test_the_command_ends_with_1_and_says_what_to_do(tmp_path: Path, tried: Callable[..., None]) -> None:
    words = (*small(tmp_path), "model=multihead", "optimizer.lr=1e30")
    failed = Warm("train.py", *words, "hydra.run.dir=run", cwd=tmp_path)
    assert failed.end() == 1
    assert "lower optimizer.lr" in failed.stderr.splitlines()[-1]
    assert read(tmp_path / "run")["status"] == "failed"
    assert_all_finite(tmp_path / "run")
    tried(numbers_that_are_none=1)


@pytest.mark.parametrize("key", ["state_dict", "optimizer_states"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_checkpoint_with_what_is_no_number_is_not_written(key: str, value: float, tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {"w": torch.ones(2)}, "optimizer_states": [{"state": {0: torch.ones(2)}}]}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()
    wrong = torch.tensor([1.0, value])
    content[key] = {"w": wrong} if key == "state_dict" else [{"state": {0: wrong}}]
    with pytest.raises(FloatingPointError, match=key):
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


class Scaled:
    """An optimizer as fp16 has it: the scaler steps, or skips."""

    def __init__(self, optimizer: torch.optim.Optimizer, scaler: GradScaler) -> None:
        self.optimizer, self.scaler = optimizer, scaler

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


def scaled_update(net: nn.Module) -> Update:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    return Update(
        net,
        optimizer=Scaled(torch.optim.SGD(net.parameters(), lr=0.1), scaler),
        scheduler=None,
        backward=lambda loss: scaler.scale(loss).backward(),
        scaler=scaler,
        clip=None,
    )


def loss_of(net: nn.Module, *, wrong: bool) -> Tensor:
    loss = net(torch.ones(1, 2)).sum()
    return Poison.apply(loss) if wrong else loss


def test_the_skips_of_fp16_are_tolerated_up_to_a_cap_and_move_nothing(tried: Callable[..., None]) -> None:
    net = nn.Linear(2, 1)
    update = scaled_update(net)
    before = net.weight.detach().clone()
    for _ in range(MOST_SKIPS):
        update([partial(loss_of, net, wrong=True)])
        assert torch.equal(net.weight, before)
    with pytest.raises(FloatingPointError, match="a gradient"):
        update([partial(loss_of, net, wrong=True)])
    assert torch.equal(net.weight, before)
    tried(numbers_that_are_none=MOST_SKIPS + 1)


def test_only_skips_in_a_row_count(tried: Callable[..., None]) -> None:
    net = nn.Linear(2, 1)
    update = scaled_update(net)
    for _ in range(MOST_SKIPS + 5):
        update([partial(loss_of, net, wrong=True)])
        before = net.weight.detach().clone()
        update([partial(loss_of, net, wrong=False)])
        assert not torch.equal(net.weight, before)
    tried(numbers_that_are_none=MOST_SKIPS + 5)


def test_a_loss_that_is_no_number_is_not_for_the_scaler_to_skip() -> None:
    net = nn.Linear(2, 1)
    with pytest.raises(FloatingPointError, match="the loss"):
        scaled_update(net)([lambda: loss_of(net, wrong=False) * torch.nan])
