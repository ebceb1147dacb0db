"""A rung that learns: next-token prediction, its loss, its optimizer and its three measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gptladder.blocks import Batch
from gptladder.loss import next_token_loss

# What each part of the validation data measures, in the order of ``TextData.val_dataloader``.
MEASURES = ("train/estimate", "val/estimate", "val/loss")


class Learner(L.LightningModule):
    """Learns to predict the next token, and measures how well it does.

    Args:
        net: ``(B, T)`` token numbers to ``(B, T, V)`` logits.
        optimizer: builds an optimizer from parameters.
        scheduler: builds a learning-rate schedule from the optimizer and ``max_steps``; ``None`` keeps it constant.
        tokens_per_step: of all processes and accumulated batches together.
        record: plain values written into every checkpoint, enough to rebuild the net and its tokenizer.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None,
        tokens_per_step: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net = net
        self.build_optimizer = optimizer
        self.build_scheduler = scheduler
        self.tokens_per_step = tokens_per_step
        self.record = record
        self.measures: dict[str, float] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook it is in two dozen times a step; torch's own way, which looks for parameters and
        # modules first, costs a bigram a tenth of its step.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def configure_optimizers(self) -> Any:
        optimizer = self.build_optimizer(self.net.parameters())
        if self.build_scheduler is None:
            return optimizer
        scheduler = self.build_scheduler(optimizer, max_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_start(self) -> None:
        trainer: Any = self.trainer  # whose type does not tell of `log_every_n_steps`
        self.log_every_n_batches = trainer.log_every_n_steps * trainer.accumulate_grad_batches

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = next_token_loss(self.net, batch)
        # Logged only where somebody reads it: on a rung this small, logging every step would cost more than the step.
        if (batch_idx + 1) % self.log_every_n_batches == 0:
            step = self.global_step + 1  # the one that this batch completes
            self._refuse_divergence({"train/loss": loss.item()})
            self._log({"train/loss": loss.item(), "lr": self.lr, "tokens": step * self.tokens_per_step}, step)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.sums = torch.zeros(len(MEASURES), 2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:
        loss, n_tokens = next_token_loss(self.net, batch), batch[1].numel()
        self.sums[dataloader_idx] += torch.stack([loss.double() * n_tokens, loss.new_tensor(n_tokens)])

    def on_validation_epoch_end(self) -> None:
        sums = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
        assert isinstance(sums, Tensor)
        self.measures = dict(zip(MEASURES, (sums[:, 0] / sums[:, 1]).tolist(), strict=True))
        self._refuse_divergence(self.measures)
        self.log_dict(self.measures, logger=False)  # for checkpoints and early stopping, which choose by name
        self._log(self.measures, self.global_step)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning 2.6 refuses to clip for a fused optimizer even in bf16, where no scaler stands in the way.
        if gradient_clip_val and self.trainer.precision != "16-mixed":
            nn.utils.clip_grad_norm_(self.net.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["gptladder"] = self.record

    @property
    def lr(self) -> float:
        """The learning rate of the step to come."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return float(optimizer.param_groups[0]["lr"])

    def _refuse_divergence(self, losses: dict[str, float]) -> None:
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"{name} is {loss} after {self.global_step} steps: lower optimizer.lr, or set "
                    "trainer.gradient_clip_val=1; the checkpoints before it are whole"
                )

    def _log(self, values: dict[str, float], step: int) -> None:
        # Straight to the loggers: the step of a point is the number of optimizer steps taken, which `self.log`
        # would count one short.
        for logger in self.loggers:
            logger.log_metrics(values, step=step)
