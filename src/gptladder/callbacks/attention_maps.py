"""Who looks at whom: the attention of every head, as an image in TensorBoard."""

from __future__ import annotations

import lightning.pytorch as L
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from gptladder.attention import attention_weights
from gptladder.learner import Learner
from gptladder.loggers import writers

CELL, MARGIN = 22, 26
LONGEST = 16  # characters of the prompt: more would be too small to read


class AttentionMaps(L.Callback):
    """Draws the maps of one fixed prompt, the start of the validation split, at the first and last evaluation."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if 0 < trainer.global_step < trainer.max_steps:
            return
        assert isinstance(pl_module, Learner)
        for writer in writers(trainer):
            data = trainer.datamodule  # type: ignore[attr-defined]
            prompt = data.val_tokens[: min(data.block_size, LONGEST)].long()
            maps = attention_weights(pl_module.net, prompt.to(pl_module.device))
            labels = [data.tokenizer.decode([token]) for token in prompt.tolist()]
            for number, heads in enumerate(maps, start=1):
                image = np.asarray(draw(heads, labels))
                writer.add_image(f"attention/layer {number}", image, trainer.global_step, dataformats="HWC")


def draw(heads: Tensor, labels: list[str]) -> Image.Image:
    """One map a head, side by side: a row is a position, its dark cells the past that it reads.

    Args:
        heads: ``(H, T, T)`` weights, each row summing to one.
        labels: the ``T`` tokens as text.
    """
    n_heads, n_tokens, _ = heads.shape
    side = MARGIN + n_tokens * CELL
    image = Image.new("RGB", (n_heads * side + CELL, side + CELL), "white")
    pen = ImageDraw.Draw(image)
    names = [
        label if label.isprintable() and label != " " else {"\n": "\\n", " ": "_"}.get(label, "?") for label in labels
    ]
    for head, weights in enumerate(heads.tolist()):
        left = head * side + MARGIN
        for place, name in enumerate(names):
            pen.text((left + place * CELL + 6, 8), name, fill="black")
            pen.text((left - 16, MARGIN + place * CELL + 5), name, fill="black")
        for row in range(n_tokens):
            for column in range(row + 1):
                x, y = left + column * CELL, MARGIN + row * CELL
                pen.rectangle((x, y, x + CELL - 2, y + CELL - 2), fill=_shade(weights[row][column]))
    return image


def _shade(weight: float) -> tuple[int, int, int]:
    """From a pale grey-blue (nothing) to a deep blue (everything)."""
    pale, deep = (232, 238, 246), (8, 48, 107)
    red, green, blue = (round(a + (b - a) * weight) for a, b in zip(pale, deep, strict=True))
    return red, green, blue
