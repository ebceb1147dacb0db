"""A language model as an ordinary LightningModule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gptladder.data.windows import Batch
from gptladder.evaluation.accumulator import LossAccumulator
from gptladder.model.gpt import build_net, describe_net
from gptladder.model.loss import next_token_loss

TRAIN_METRICS = ("train/loss", "train/lr", "train/tokens")

NONFINITE_HINT = "lower optimizer.lr, or set trainer.gradient_clip_val=1; earlier checkpoints are intact"

OptimizerFactory = Callable[[Iterable[tuple[str, nn.Parameter]]], Optimizer]


class LanguageModel(L.LightningModule):
    """Trains a network to predict the next token, and evaluates it.

    Args:
        net: ``(B, T)`` token numbers to ``(B, T, V)`` logits; or the arguments of a ``GPT`` or ``Bigram`` as plain
            values, which is how a checkpoint stores it.
        optimizer: builds an optimizer from named parameters; ``None`` is ``torch.optim.AdamW`` at 1e-3.
        scheduler: builds a learning-rate schedule from the optimizer and ``max_steps``, stepped once per step; ``None``
            keeps the learning rate constant.
        lr: a learning rate instead of the optimizer's own; where Lightning's learning-rate finder puts its suggestion.
        metadata: plain values for every checkpoint: config, tokenizer and text of the run.
    """

    def __init__(
        self,
        net: nn.Module | Mapping[str, Any],
        *,
        optimizer: OptimizerFactory | None = None,
        scheduler: Callable[..., LRScheduler] | None = None,
        lr: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net = net if isinstance(net, nn.Module) else build_net(net)
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.lr = lr
        self.metadata = metadata
        self.val_metrics: dict[str, float] = {}
        description = describe_net(self.net)
        if description is not None:  # else `load_from_checkpoint` needs `net=`
            self.save_hyperparameters({"net": description}, logger=False)

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.net(idx)  # (B, T) -> (B, T, V)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = next_token_loss(self.net(x), y)
        # Logged only where it is read: on a small rung, logging every step would cost more than the step.
        step, accumulated = self.global_step + 1, self.trainer.accumulate_grad_batches
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and step % every == 0 and (batch_idx + 1) % accumulated == 0:
            tokens = step * accumulated * y.numel() * self.trainer.world_size
            self._log_at(step, dict(zip(TRAIN_METRICS, (loss.detach(), self.next_lr, tokens), strict=True)))
        return loss

    def on_validation_epoch_start(self) -> None:
        self.val_losses = {name: LossAccumulator() for name in self._val_names()}

    def _val_names(self) -> list[str]:
        """The metric of each validation loader: its own ``metric``, or as Lightning numbers several loaders."""
        loaders: Any = self.trainer.val_dataloaders
        if isinstance(loaders, Mapping):
            loaders = list(loaders.values())
        elif not isinstance(loaders, list | tuple):
            loaders = [loaders]
        names = ["val/loss"] if len(loaders) == 1 else [f"val/loss/dataloader_idx_{i}" for i in range(len(loaders))]
        own = [getattr(loader, "metric", None) or name for loader, name in zip(loaders, names, strict=True)]
        return own if len(set(own)) == len(own) else names

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        list(self.val_losses.values())[dataloader_idx].add(next_token_loss(self.net(x), y), y.numel())

    def on_validation_epoch_end(self) -> None:
        sums = torch.stack([losses.compute() for losses in self.val_losses.values()])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        means = (sums[:, 0] / sums[:, 1]).tolist()
        self.val_metrics = dict(zip(self.val_losses, means, strict=True))
        for name, value in self.val_metrics.items():
            if not math.isfinite(value) and not self.trainer.sanity_checking:
                raise FloatingPointError(f"step {self.global_step}: {name} is {value}; {NONFINITE_HINT}")
        self._log_at(self.global_step, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        loss = next_token_loss(self.net(x), y)
        self.log("test/loss", loss, batch_size=y.numel(), on_epoch=True, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch[0])  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        factory = self.optimizer_factory or torch.optim.AdamW
        optimizer = factory(self.net.named_parameters())
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        if self.scheduler_factory is None:
            return optimizer
        scheduler = self.scheduler_factory(optimizer, max_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        plugin = self.trainer.precision_plugin
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (gradient_clip_val and fused and isinstance(plugin, MixedPrecision)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        # Lightning 2.6 refuses this (#21435): a fused optimizer takes gradients that are still scaled, in fp16. The
        # limit is scaled as they are; in bf16 nothing is.
        limit = gradient_clip_val * (plugin.scaler.get_scale() if plugin.scaler else 1.0)
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
        Precision.clip_gradients(plugin, optimizer, limit, algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.metadata is not None:
            checkpoint["gptladder"] = self.metadata

    @property
    def next_lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def _log_at(self, step: int, values: Mapping[str, float | Tensor]) -> None:
        exact = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in values.items()}
        if self.trainer.state.fn != "fit":  # Lightning takes the value of "step" for the step of a point
            self.log_dict({**exact, "step": torch.tensor(float(step))}, add_dataloader_idx=False)
            return
        # In a training, where it counts one step less by default, "step" would get into the names of checkpoints.
        self.log_dict(exact, logger=False, add_dataloader_idx=False)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics({name: float(value) for name, value in exact.items()}, step=step)
