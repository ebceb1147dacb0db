"""Attention maps as images: a grid with one map per head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, MARGIN, TITLE = 24, 28, 26  # pixels
TEXT_COLOR, MUTED_COLOR = "#1f2937", "#6b7280"
PALE, MIDDLE, DEEP = (238, 243, 250), (72, 148, 204), (8, 48, 107)  # RGB of the weights 0, 1/2 and 1
MAX_PROMPT_TOKENS = 16  # of a small image; more would be too small to read
MAX_LABELED_TOKENS = 32  # with more tokens, a map has no labels
UNLABELED_SIZE = 512  # pixels, the side of a map without labels

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_heads(heads: Tensor, labels: list[str]) -> Image.Image:
    """Draw one map per head, in a grid close to a square, which TensorBoard shows largest.

    Args:
        heads: ``(H, T, T)`` weights, each row summing to one.
        labels: the ``T`` tokens as text.
    """
    maps = [_draw_labeled(head, labels, f"head {number}") for number, head in enumerate(heads, start=1)]
    n_columns = math.ceil(math.sqrt(len(maps)))
    return _grid([maps[first : first + n_columns] for first in range(0, len(maps), n_columns)])


def draw_layers(layers: list[Tensor], labels: list[str]) -> Image.Image:
    """Draw the maps of a whole net: one row per layer, one column per head.

    Args:
        layers: one ``(H, T, T)`` tensor per layer, at least one.
        labels: the ``T`` tokens as text. More than ``MAX_LABELED_TOKENS`` are not printed, and the weights of each row
            are then shaded relative to its largest.
    """
    draw_map = _draw_labeled if len(labels) <= MAX_LABELED_TOKENS else _draw_unlabeled
    return _grid(
        [
            [draw_map(head, labels, f"layer {layer}, head {number}") for number, head in enumerate(heads, start=1)]
            for layer, heads in enumerate(layers, start=1)
        ]
    )


def _grid(rows: list[list[Image.Image]]) -> Image.Image:
    """Images of about the same size in rows and columns."""
    width, height = rows[-1][-1].size
    image = Image.new("RGB", (len(rows[0]) * width + MARGIN, len(rows) * height + MARGIN // 2), "white")
    for row, maps in enumerate(rows):
        for column, one in enumerate(maps):
            image.paste(one, (column * width, row * height))
    return image


def _draw_labeled(weights: Tensor, labels: list[str], title: str) -> Image.Image:
    """Each row is a position and its dark cells are the tokens that it attends to; the future stays white."""
    image, pen, font = _titled(title, MARGIN + len(labels) * CELL)
    colors = _colors(weights.numpy()).tolist()
    for row, label in enumerate(labels):
        near, far = MARGIN // 2, MARGIN + row * CELL + CELL // 2 - 1
        pen.text((near, TITLE + far), _printable(label), TEXT_COLOR, font, anchor="mm")
        pen.text((far, TITLE + near), _printable(label), TEXT_COLOR, font, anchor="mm")
        for column in range(row + 1):
            x, y = MARGIN + column * CELL, TITLE + MARGIN + row * CELL
            pen.rounded_rectangle((x, y, x + CELL - 3, y + CELL - 3), radius=3, fill=tuple(colors[row][column]))
    return image


def _draw_unlabeled(weights: Tensor, labels: list[str], title: str) -> Image.Image:
    """One pixel or more per weight; in a long row every weight is small, so each row is divided by its largest."""
    n_tokens = len(labels)
    pixels = _colors((weights / weights.amax(dim=1, keepdim=True)).numpy())
    pixels[np.triu_indices(n_tokens, k=1)] = 255
    enlarge = n_tokens <= UNLABELED_SIZE
    side = UNLABELED_SIZE // n_tokens * n_tokens if enlarge else UNLABELED_SIZE
    resampling = Image.Resampling.NEAREST if enlarge else Image.Resampling.BOX
    image, _, _ = _titled(title, MARGIN + side)
    image.paste(Image.fromarray(pixels).resize((side, side), resampling), (MARGIN, TITLE + MARGIN // 4))
    return image


def _titled(title: str, side: int) -> tuple[Image.Image, ImageDraw.ImageDraw, Font]:
    """A white square under a title, at least as wide as the title."""
    font = ImageFont.load_default(size=15)
    image = Image.new("RGB", (max(side, MARGIN + math.ceil(font.getlength(title))), TITLE + side), "white")
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, TITLE - 2), title, MUTED_COLOR, font, anchor="ls")
    return image, pen, font


def _printable(label: str) -> str:
    r"""Make white space visible: a space as ``_``, a line break as ``\n``."""
    text = repr(label)[1:-1].replace(" ", "_")
    return text if len(text) <= 3 else f"{text[:2]}…"  # the width of a cell


def _colors(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """RGB colors of weights from 0 (pale blue) to 1 (dark blue), with one dimension more for the channels."""
    channels = (np.interp(weights, (0, 0.5, 1), channel) for channel in zip(PALE, MIDDLE, DEEP, strict=True))
    return np.stack([channel.round() for channel in channels], axis=-1).astype(np.uint8)
