"""A picture of attention: who looks at whom, a grid of maps, one a head."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, MARGIN, TITLE = 24, 28, 26  # pixels
INK, FAINT = "#1f2937", "#6b7280"
PALE, MIDDLE, DEEP = (238, 243, 250), (72, 148, 204), (8, 48, 107)
LONGEST = 16  # characters of the prompt: more would be too small to read
READABLE = 32  # tokens that can be named beside a map that has a page to itself
DENSE = 512  # pixels of a map without names

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw(heads: Tensor, labels: list[str]) -> Image.Image:
    """One map a head, in a grid near to a square, which TensorBoard's cards show largest.

    Args:
        heads: ``(H, T, T)`` weights, each row summing to one.
        labels: the ``T`` tokens as text.
    """
    maps = [_draw_head(head, labels, f"head {number}") for number, head in enumerate(heads, start=1)]
    n_columns = math.ceil(math.sqrt(len(maps)))
    return _grid([maps[first : first + n_columns] for first in range(0, len(maps), n_columns)])


def draw_layers(layers: list[Tensor], labels: list[str]) -> Image.Image:
    """The maps of a whole net: a row a layer, a column a head.

    Args:
        layers: one ``(H, T, T)`` tensor a layer, at least one.
        labels: the ``T`` tokens as text; more than ``READABLE`` cannot be named, and the weights of a row are then
            shaded relative to its largest.
    """
    draw_map = _draw_head if len(labels) <= READABLE else _draw_dense
    return _grid(
        [
            [draw_map(head, labels, f"layer {layer}, head {number}") for number, head in enumerate(heads, start=1)]
            for layer, heads in enumerate(layers, start=1)
        ]
    )


def _grid(rows: list[list[Image.Image]]) -> Image.Image:
    """Pictures of one size, or nearly, side by side and row under row."""
    width, height = rows[-1][-1].size
    image = Image.new("RGB", (len(rows[0]) * width + MARGIN, len(rows) * height + MARGIN // 2), "white")
    for row, maps in enumerate(rows):
        for column, one in enumerate(maps):
            image.paste(one, (column * width, row * height))
    return image


def _draw_head(weights: Tensor, labels: list[str], title: str) -> Image.Image:
    """A row is a position, its dark cells the past that it reads; the future stays white."""
    image, pen, font = _titled(title, MARGIN + len(labels) * CELL)
    shades = _shades(weights.numpy()).tolist()
    for row, label in enumerate(labels):
        near, far = MARGIN // 2, MARGIN + row * CELL + CELL // 2 - 1
        pen.text((near, TITLE + far), _visible(label), INK, font, anchor="mm")
        pen.text((far, TITLE + near), _visible(label), INK, font, anchor="mm")
        for column in range(row + 1):
            x, y = MARGIN + column * CELL, TITLE + MARGIN + row * CELL
            pen.rounded_rectangle((x, y, x + CELL - 3, y + CELL - 3), radius=3, fill=tuple(shades[row][column]))
    return image


def _draw_dense(weights: Tensor, labels: list[str], title: str) -> Image.Image:
    """As many cells as there are labels, without naming them: in long rows every weight by itself would be pale."""
    n_tokens = len(labels)
    shades = _shades((weights / weights.amax(dim=1, keepdim=True)).numpy())
    shades[np.triu_indices(n_tokens, k=1)] = 255
    few = n_tokens <= DENSE
    side = DENSE // n_tokens * n_tokens if few else DENSE
    cells = Image.fromarray(shades).resize((side, side), Image.Resampling.NEAREST if few else Image.Resampling.BOX)
    image, _, _ = _titled(title, MARGIN + side)
    image.paste(cells, (MARGIN, TITLE + MARGIN // 4))
    return image


def _titled(title: str, side: int) -> tuple[Image.Image, ImageDraw.ImageDraw, Font]:
    """A white square under a title, which even a map of one cell has room for."""
    font = ImageFont.load_default(size=15)
    image = Image.new("RGB", (max(side, MARGIN + math.ceil(font.getlength(title))), TITLE + side), "white")
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, TITLE - 2), title, FAINT, font, anchor="ls")
    return image, pen, font


def _visible(label: str) -> str:
    r"""A token as a reader can see it: a space as ``_``, a line end as ``\n``."""
    shown = repr(label)[1:-1].replace(" ", "_")
    return shown if len(shown) <= 3 else f"{shown[:2]}…"  # a cell is no wider


def _shades(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """From a pale blue (nothing) to a deep one (everything), a colour more for each weight."""
    channels = (np.interp(weights, (0, 0.5, 1), channel) for channel in zip(PALE, MIDDLE, DEEP, strict=True))
    return np.stack([channel.round() for channel in channels], axis=-1).astype(np.uint8)
