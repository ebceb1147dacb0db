"""Attention maps of every head, as images in TensorBoard."""

from __future__ import annotations

import lightning.pytorch as L
import numpy as np

from gptladder.data.tokenizer import token_labels
from gptladder.evaluation.attention_maps import MAX_PROMPT_TOKENS, draw_heads
from gptladder.model.attention import attention_weights
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.loggers import tensorboard_writers


class AttentionMaps(L.Callback):
    """Draws the maps of one fixed prompt, the start of the validation split, at the first and the last evaluation."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or 0 < trainer.global_step < trainer.max_steps:
            return
        for writer in tensorboard_writers(trainer):
            assert isinstance(pl_module, LanguageModel)
            data = trainer.datamodule  # type: ignore[attr-defined]
            prompt = data.val_tokens[: min(data.block_size, MAX_PROMPT_TOKENS)].long()
            maps = attention_weights(pl_module.net, prompt.to(pl_module.device))
            for number, heads in enumerate(maps, start=1):
                image = np.asarray(draw_heads(heads, token_labels(data.tokenizer, prompt.tolist())))
                # TensorBoard sorts tags by name: "weights" comes after the losses.
                writer.add_image(f"weights/layer {number}", image, trainer.global_step, dataformats="HWC")
