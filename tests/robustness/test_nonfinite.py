"""A loss or gradient that is NaN or infinite never moves a weight and never reaches a checkpoint."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from gptladder.fast import training_loop
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.training import lightning_module
from gptladder.training.build import build_datamodule
from gptladder.training.callbacks import nonfinite
from gptladder.training.callbacks.nonfinite import MAX_SKIPPED_STEPS, NonFiniteGuard, all_finite
from gptladder.training.checkpoint_io import AtomicCheckpointIO
from helpers.configs import composed, trained
from helpers.marks import slow
from helpers.processes import Warm
from helpers.runs import assert_all_finite, read, small


class InfiniteGradient(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(context: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.inf


# The loss itself, the loss with finite gradients, the gradients alone.
FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "loss nan": lambda loss: loss * torch.nan,
    "loss inf, gradients finite": lambda loss: loss + torch.inf,
    "gradient inf, loss finite": InfiniteGradient.apply,
}


class FaultyLoss:
    """The loss of the training step and of the fast loop, with a fault in one batch of one training.

    Args:
        fault: applied to the loss of the faulty batch.
        at: its number, from 1.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensor], Tensor], *, at: int) -> None:
        self.fault, self.at = fault, at
        self.n_batches = 0
        self.batches: list[Tensor] = []
        self.net: nn.Module | None = None
        self.weights: list[list[Tensor]] = []  # before each batch
        self.right = lightning_module.next_token_loss
        monkeypatch.setattr(lightning_module, "next_token_loss", self)
        monkeypatch.setattr(training_loop, "next_token_loss", self)
        monkeypatch.setattr(lightning_module.LanguageModel, "configure_optimizers", self._configure(monkeypatch))

    def _configure(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        original = lightning_module.LanguageModel.configure_optimizers

        def configure(module: Any) -> Any:
            self.net = module.net
            return original(module)

        return configure

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        loss = self.right(logits, targets)
        if not torch.is_grad_enabled():  # an evaluation
            return loss
        assert self.net is not None
        self.n_batches += 1
        self.batches.append(targets)
        self.weights.append([parameter.detach().clone() for parameter in self.net.parameters()])
        return self.fault(loss) if self.n_batches == self.at else loss


def named_windows(message: str, run: Path, *overrides: str) -> Tensor:
    """The tokens that follow in the windows that an error message names, ``(n, T)``."""
    (offsets,) = re.findall(r"\(batch offsets in the training split: ([\d, ]+)\)", message)
    data = build_datamodule(composed(*overrides, f"run_dir={run}"))
    return torch.stack([data.train_tokens[at + 1 : at + 9].long() for at in map(int, offsets.split(","))])


# The fast loop takes steps 5 to 7 in one go; step 7 has the fault, in one of its batches.
@pytest.mark.parametrize("fast", ["true", "false"])
@pytest.mark.parametrize(("accumulated", "faulty"), [(1, 1), pytest.param(3, 1, marks=pytest.mark.slow), (3, 3)])
@pytest.mark.parametrize("clip", [*slow(["null"]), "1.0"])
@pytest.mark.parametrize("kind", FAULTS)
def test_non_finite_loss_or_gradient_stops_before_the_update(
    kind: str,
    clip: str,
    accumulated: int,
    faulty: int,
    fast: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tried: Callable[..., None],
) -> None:
    options = (*small(tmp_path), "logger=none", f"fast={fast}", f"trainer.gradient_clip_val={clip}")
    options = (*options, f"trainer.accumulate_grad_batches={accumulated}", "trainer.log_every_n_steps=4")
    losses = FaultyLoss(monkeypatch, FAULTS[kind], at=6 * accumulated + faulty)
    with pytest.raises(FloatingPointError) as error:
        trained(tmp_path / "run", *options)
    message = str(error.value)
    in_loss = kind.startswith("loss")
    assert message.startswith("step 7: loss is " if in_loss else "step 7: a gradient is not finite")
    # A loss is that of one batch; a gradient is the sum over the batches of the step.
    batches = losses.batches[6 * accumulated + faulty - 1 :][:1] if in_loss else losses.batches[6 * accumulated :]
    assert torch.equal(named_windows(message, tmp_path, *options), torch.cat(batches[:accumulated]))
    assert losses.net is not None
    assert all(torch.equal(now, then) for now, then in zip(losses.net.parameters(), losses.weights[-1], strict=True))
    assert read(tmp_path / "run")["status"] == "failed"
    assert message.split(";")[0] in read(tmp_path / "run")["error"]
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 4
    assert_all_finite(tmp_path / "run")
    tried(non_finite_numbers=1)


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_checkpoint_saved_after_the_error_has_the_weights_of_its_step(
    fast: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*small(tmp_path), "logger=none", f"fast={fast}", "trainer.log_every_n_steps=4")
    callback = "+callbacks.on_error={_target_: lightning.pytorch.callbacks.OnExceptionCheckpoint, dirpath: "
    losses = FaultyLoss(monkeypatch, FAULTS["loss nan"], at=7)
    with pytest.raises(FloatingPointError):
        trained(tmp_path / "run", *options, f"{callback}{tmp_path}}}")
    saved = read_checkpoint(tmp_path / "on_exception.ckpt")
    assert saved["global_step"] == 6
    assert all(torch.equal(a, b) for a, b in zip(saved["state_dict"].values(), losses.weights[-1], strict=True))
    assert {float(state["step"]) for state in saved["optimizer_states"][0]["state"].values()} == {6.0}


@pytest.mark.parametrize("fast", ["true", "false"])
@pytest.mark.parametrize("lr", [1e4, 1e30, 3e38])
def test_a_learning_rate_that_makes_weights_overflow_leaves_finite_checkpoints(
    lr: float, fast: str, tmp_path: Path, tried: Callable[..., None]
) -> None:
    options = (*small(tmp_path), "logger=none", "model=multihead", f"optimizer.lr={lr}", f"fast={fast}")
    with pytest.raises(FloatingPointError):
        trained(
            tmp_path / "run",
            *options,
            "trainer.val_check_interval=1",
            "trainer.max_steps=3000",
            "optimizer.weight_decay=1",
        )
    assert read(tmp_path / "run")["status"] == "failed"
    assert_all_finite(tmp_path / "run")
    tried(non_finite_numbers=1)


def test_the_command_exits_with_1_and_names_the_remedy(tmp_path: Path, tried: Callable[..., None]) -> None:
    options = (*small(tmp_path), "model=multihead", "optimizer.lr=1e30")
    failed = Warm("train.py", *options, "hydra.run.dir=run", cwd=tmp_path)
    assert failed.end() == 1
    assert "lower optimizer.lr" in failed.stderr.splitlines()[-1]
    assert read(tmp_path / "run")["status"] == "failed"
    assert_all_finite(tmp_path / "run")
    tried(non_finite_numbers=1)


@pytest.mark.parametrize("key", ["state_dict", "optimizer_states"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_non_finite_checkpoint_is_not_written(key: str, value: float, tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": {"w": torch.ones(2)}, "optimizer_states": [{"state": {0: torch.ones(2)}}]}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    before = (tmp_path / "last.ckpt").read_bytes()
    wrong = torch.tensor([1.0, value])
    content[key] = {"w": wrong} if key == "state_dict" else [{"state": {0: wrong}}]
    with pytest.raises(FloatingPointError, match=key):
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


class LinearModule(L.LightningModule):
    """A linear whose loss has a fault in some steps; records the weight before each step.

    Args:
        faults: for each step a name of ``FAULTS``, or ``None``.
    """

    def __init__(self, faults: list[str | None]) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.faults = faults
        self.weights: list[Tensor] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.weights.append(self.net.weight.detach().clone())
        loss = self.net(batch).float().sum()
        fault = self.faults[batch_idx]
        return loss if fault is None else FAULTS[fault](loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(1, 2)] * len(self.faults), batch_size=None)  # type: ignore[arg-type]


def train_in_fp16(faults: list[str | None], directory: Path) -> LinearModule:
    """Train with the guard and a gradient scaler, as on a GPU without bf16."""
    module = LinearModule(faults)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
        callbacks=[NonFiniteGuard()],
        default_root_dir=directory,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module)
    finally:
        module.weights.append(module.net.weight.detach().clone())
    return module


GRADIENT = "gradient inf, loss finite"


def test_fp16_skips_a_limited_number_of_steps_and_moves_no_weight(tmp_path: Path, tried: Callable[..., None]) -> None:
    module = train_in_fp16([GRADIENT] * MAX_SKIPPED_STEPS, tmp_path)
    assert len(module.weights) == MAX_SKIPPED_STEPS + 1
    assert all(torch.equal(weight, module.weights[0]) for weight in module.weights)
    with pytest.raises(FloatingPointError, match=f"step {MAX_SKIPPED_STEPS + 1}: a gradient is not finite"):
        train_in_fp16([GRADIENT] * (MAX_SKIPPED_STEPS + 1), tmp_path)
    tried(non_finite_numbers=2 * MAX_SKIPPED_STEPS + 1)


def test_fp16_counts_consecutive_skipped_steps_only(tmp_path: Path, tried: Callable[..., None]) -> None:
    module = train_in_fp16([GRADIENT, None] * (MAX_SKIPPED_STEPS + 5), tmp_path)
    for before, skipped, after in zip(module.weights[0::2], module.weights[1::2], module.weights[2::2], strict=False):
        assert torch.equal(before, skipped)
        assert not torch.equal(skipped, after)
    tried(non_finite_numbers=MAX_SKIPPED_STEPS + 5)


@pytest.mark.parametrize("fault", ["loss nan", "loss inf, gradients finite"])
def test_fp16_does_not_skip_a_non_finite_loss(fault: str, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="step 1: loss is"):
        train_in_fp16([fault], tmp_path)


@pytest.fixture
def read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the guard treat the CPU as a device on which reading a value would wait."""
    monkeypatch.setattr(nonfinite, "_reads_at_once", lambda device: False)


# Read at step 8 with the metrics, before the evaluation and checkpoint after step 8, and after the last step.
@pytest.mark.usefixtures("read_late")
@pytest.mark.parametrize(
    ("read_by", "override"),
    [
        ("metrics", "trainer.log_every_n_steps=8"),
        ("evaluation", "trainer.log_every_n_steps=1000"),
        ("the end", "trainer.val_check_interval=1000"),
    ],
)
@pytest.mark.parametrize("accumulated", [3, *slow([1])])
@pytest.mark.parametrize("kind", FAULTS)
def test_an_unread_fault_never_reaches_a_checkpoint_and_is_reported_with_its_step(
    kind: str, accumulated: int, read_by: str, override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*small(tmp_path), "logger=none", "fast=false", "trainer.log_every_n_steps=1000", override)
    options = (*options, f"trainer.accumulate_grad_batches={accumulated}")
    losses = FaultyLoss(monkeypatch, FAULTS[kind], at=6 * accumulated + 1)
    with pytest.raises(FloatingPointError) as error:
        trained(tmp_path / "run", *options)
    message = str(error.value)
    in_loss = kind.startswith("loss")
    assert message.startswith("step 7: loss is " if in_loss else "step 7: a gradient is not finite")
    batches = losses.batches[6 * accumulated :][: 1 if in_loss else accumulated]
    assert torch.equal(named_windows(message, tmp_path, *options), torch.cat(batches))
    assert losses.n_batches == {"metrics": 8, "evaluation": 8, "the end": 10}[read_by] * accumulated
    assert read(tmp_path / "run")["status"] == "failed"
    assert_all_finite(tmp_path / "run")
    last = tmp_path / "run/checkpoints/last.ckpt"
    if read_by == "the end":  # nothing was saved before
        assert not last.exists()
    else:
        assert read_checkpoint(last)["global_step"] == 4


@pytest.mark.usefixtures("read_late")
def test_an_unread_fault_stops_a_checkpoint_between_two_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*small(tmp_path), "logger=none", "fast=false", "trainer.log_every_n_steps=1000")
    callback = "+callbacks.often={_target_: lightning.pytorch.callbacks.ModelCheckpoint, every_n_train_steps: 2, "
    FaultyLoss(monkeypatch, FAULTS["loss inf, gradients finite"], at=7)
    with pytest.raises(FloatingPointError, match="step 7: loss is inf"):
        trained(tmp_path / "run", *options, f"{callback}save_top_k: -1, dirpath: {tmp_path}/often}}")
    steps = {read_checkpoint(path)["global_step"] for path in (tmp_path / "often").glob("*.ckpt")}
    assert steps == {2, 4, 6}


@pytest.mark.usefixtures("read_late")
@pytest.mark.parametrize("kind", ["loss nan", "loss inf, gradients finite"])
def test_nothing_is_saved_after_a_fault_that_was_read_late(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*small(tmp_path), "logger=none", "fast=false", "trainer.log_every_n_steps=1000")
    callback = "+callbacks.on_error={_target_: lightning.pytorch.callbacks.OnExceptionCheckpoint, dirpath: "
    FaultyLoss(monkeypatch, FAULTS[kind], at=7)
    with pytest.raises(FloatingPointError, match="step 7: loss is"):
        trained(tmp_path / "run", *options, f"{callback}{tmp_path}}}")
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.usefixtures("read_late")
def test_the_last_step_of_an_epoch_may_have_fewer_batches(tmp_path: Path) -> None:
    options = (*small(tmp_path), "logger=none", "fast=false", "trainer.log_every_n_steps=1000")
    words = ["trainer.accumulate_grad_batches=3", "+trainer.limit_train_batches=8", "trainer.max_epochs=1"]
    result = trained(tmp_path / "run", *options, *words)
    assert result["step"] == 3


@pytest.mark.usefixtures("read_late")
def test_values_are_read_after_a_limited_number_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (*small(tmp_path), "logger=none", "fast=false", "trainer.log_every_n_steps=1000")
    monkeypatch.setattr(nonfinite, "MAX_UNREAD_STEPS", 3)
    losses = FaultyLoss(monkeypatch, FAULTS["loss nan"], at=5)
    with pytest.raises(FloatingPointError, match="step 5: loss is nan"):
        trained(tmp_path / "run", *options, "trainer.val_check_interval=1000")
    assert losses.n_batches == 6


@pytest.mark.usefixtures("read_late")
def test_skipped_steps_that_are_read_late_are_counted_in_order(tmp_path: Path) -> None:
    module = train_in_fp16([GRADIENT, None] * (MAX_SKIPPED_STEPS + 5), tmp_path)
    assert not torch.equal(module.weights[0], module.weights[-1])
    with pytest.raises(FloatingPointError, match=f"step {MAX_SKIPPED_STEPS + 1}: a gradient is not finite"):
        train_in_fp16([GRADIENT] * (MAX_SKIPPED_STEPS + 5), tmp_path)


@pytest.mark.usefixtures("read_late")
@pytest.mark.parametrize("words", [["model=average"], ["model=llama", "scheduler.warmup_steps=2"]])
def test_a_step_reads_no_value_except_where_one_is_read_anyway(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []  # at which values were read
    watch = WatchReads(steps)
    options = (*small(tmp_path), *words, "model.block_size=8", "fast=false", "trainer.log_every_n_steps=3")
    monkeypatch.setattr(lightning_module.LanguageModel, "on_train_batch_start", watch.start, raising=False)
    monkeypatch.setattr(lightning_module.LanguageModel, "on_train_batch_end", watch.end, raising=False)
    trained(tmp_path / "run", *options, "trainer.gradient_clip_val=1.0", "data.batch_size=4")
    assert watch.n_steps == 10
    assert sorted(set(steps)) == [3, 6, 9]


class WatchReads(TorchDispatchMode):
    """Records the steps in which a value is read from a tensor, which on a GPU would wait for it."""

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps, self.n_steps = steps, 0
        self._patch = pytest.MonkeyPatch()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(function) or "nonzero" in str(function):
            self.steps.append(self.n_steps + 1)
        return function(*args, **(kwargs or {}))

    def start(self, batch: Any, batch_idx: int) -> None:
        for name in ("tolist", "numpy", "cpu"):
            original = getattr(Tensor, name)
            self._patch.setattr(Tensor, name, self._recorded(original))
        self.__enter__()

    def end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.__exit__(None, None, None)
        self._patch.undo()
        self.n_steps += 1

    def _recorded(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
            self.steps.append(self.n_steps + 1)
            return original(tensor, *arguments, **options)

        return read


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_finite_gradients_are_finite_and_one_value_that_is_not_is_found(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    tensors = [torch.full((3, 5), largest, dtype=dtype), torch.full((7,), -largest, dtype=dtype)]
    assert all_finite(tensors)
    for value in (torch.nan, torch.inf, -torch.inf):
        for tensor in tensors:
            before = tensor.view(-1)[-1].clone()
            tensor.view(-1)[-1] = value
            assert not all_finite(tensors)
            tensor.view(-1)[-1] = before
    assert not all_finite([torch.tensor([torch.inf]), torch.tensor([-torch.inf])])
