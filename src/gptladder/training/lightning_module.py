"""A rung that learns: next-token prediction, its loss, its optimizer and its three measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gptladder.data.stretch import Stretch
from gptladder.evaluation.accumulator import LossAccumulator, Part
from gptladder.model.loss import next_token_loss
from gptladder.training.update import Unheard, Update

# What each part of the validation data measures, in the order of ``TextDataModule.val_dataloader``.
MEASURES = ("train/estimate", "val/estimate", "val/loss")

# What Lightning calls on every callback within a step, which for seven callbacks takes a bigram a third of its step.
HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")

REMEDY = "lower optimizer.lr, or set trainer.gradient_clip_val=1; the checkpoints before it are whole"


class LanguageModel(L.LightningModule):
    """Learns to predict the next token, and measures how well it does.

    Args:
        net: ``(B, T)`` token numbers to ``(B, T, V)`` logits.
        optimizer: builds an optimizer from named parameters.
        scheduler: builds a learning-rate schedule from the optimizer and ``max_steps``; ``None`` keeps it constant.
        gradient_clip_val: the longest gradient, or ``None``.
        tokens_per_step: of all processes and accumulated batches together.
        record: plain values written into every checkpoint, enough to rebuild the net and its tokenizer.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None,
        gradient_clip_val: float | None,
        tokens_per_step: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # Lightning hands over a stretch of steps at once
        self.net = net
        self.build_optimizer = optimizer
        self.build_scheduler = scheduler
        self.gradient_clip_val = gradient_clip_val
        self.tokens_per_step = tokens_per_step
        self.record = record
        self.side_by_side = 1  # batches of an evaluation at once, which the hardware decides
        self.measures: dict[str, float] = {}

    def configure_optimizers(self) -> Any:
        optimizer = self.build_optimizer(self.net.named_parameters())
        if self.build_scheduler is None:
            return optimizer
        return [optimizer], [self.build_scheduler(optimizer, max_steps=self.trainer.max_steps)]

    def on_train_start(self) -> None:
        trainer: Any = self.trainer  # whose type does not tell of `log_every_n_steps` and the scaler
        self.log_every_n_steps = trainer.log_every_n_steps
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        optimizer: Any = self.optimizers()
        alone = scaler is None and trainer.world_size == 1 and not _listened_to(trainer)
        self.update = Update(
            self.net,
            optimizer=Unheard(optimizer) if alone else optimizer,
            scheduler=self.lr_schedulers(),
            backward=Tensor.backward if alone else self.manual_backward,
            scaler=scaler,
            clip=self.gradient_clip_val,
        )

    def training_step(self, stretch: Stretch, batch_idx: int) -> dict[str, Tensor]:
        for step, batches in enumerate(stretch, start=self.global_step + 1):
            lr = self.lr
            try:
                loss = self.update([partial(next_token_loss, self.net, batch) for batch in batches])
            except FloatingPointError as error:
                raise FloatingPointError(f"step {step}: {error}; {stretch.whereabouts}; {REMEDY}") from None
            # Logged only where somebody reads it: on a rung this small, logging every step would cost more than it.
            if step % self.log_every_n_steps == 0:
                self._log({"train/loss": loss.item(), "lr": lr, "tokens": step * self.tokens_per_step}, step)
        return {"loss": loss}  # of the last step, for callbacks

    def on_validation_epoch_start(self) -> None:
        self.measuring = LossAccumulator(
            partial(next_token_loss, self.net), len(MEASURES), side_by_side=self.side_by_side, device=self.device
        )

    def validation_step(self, part: Part, batch_idx: int, dataloader_idx: int) -> None:
        for batch in part.batches():
            self.measuring.add(dataloader_idx, batch)

    def on_validation_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(self.measuring.finish(), reduce_op="sum")
        assert isinstance(sums, Tensor)
        self.measures = dict(zip(MEASURES, (sums[:, 0] / sums[:, 1]).tolist(), strict=True))
        for name, value in self.measures.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"step {self.global_step}: {name} is {value}; {REMEDY}")
        self.log_dict(self.measures, logger=False)  # for checkpoints and early stopping, which choose by name
        self._log(self.measures, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gptladder"] = self.record

    @property
    def lr(self) -> float:
        """The learning rate of the step to come."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _log(self, values: dict[str, float], step: int) -> None:
        # Straight to the loggers: the step of a point is the number of optimizer steps taken, which `self.log`
        # would count one short.
        for logger in self.loggers:
            logger.log_metrics(values, step=step)


def _listened_to(trainer: L.Trainer) -> bool:
    """Whether any callback wants to hear of single steps: our own do not."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(is_overridden(hook, callback, L.Callback) for hook in HOOKS for callback in callbacks)
