"""A picture of attention: who looks at whom, a grid of maps, one a head."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, MARGIN, TITLE = 24, 28, 26  # pixels
INK, FAINT = "#1f2937", "#6b7280"
PALE, MIDDLE, DEEP = (238, 243, 250), (72, 148, 204), (8, 48, 107)
LONGEST = 16  # characters of the prompt: more would be too small to read


def draw(heads: Tensor, labels: list[str]) -> Image.Image:
    """One map a head, in a grid near to a square, which TensorBoard's cards show largest.

    Args:
        heads: ``(H, T, T)`` weights, each row summing to one.
        labels: the ``T`` tokens as text.
    """
    n_heads, n_tokens, _ = heads.shape
    n_columns = math.ceil(math.sqrt(n_heads))
    n_rows = math.ceil(n_heads / n_columns)
    width = MARGIN + n_tokens * CELL
    height = TITLE + width
    image = Image.new("RGB", (n_columns * width + MARGIN, n_rows * height + MARGIN // 2), "white")
    for head, weights in enumerate(heads.tolist()):
        row, column = divmod(head, n_columns)
        image.paste(_draw_head(weights, labels, f"head {head + 1}"), (column * width, row * height))
    return image


def _draw_head(weights: list[list[float]], labels: list[str], title: str) -> Image.Image:
    """A row is a position, its dark cells the past that it reads; the future stays white."""
    width = MARGIN + len(labels) * CELL
    image = Image.new("RGB", (width, TITLE + width), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    pen.text((MARGIN, TITLE - 2), title, FAINT, font, anchor="ls")
    for row, label in enumerate(labels):
        near, far = MARGIN // 2, MARGIN + row * CELL + CELL // 2 - 1
        pen.text((near, TITLE + far), _visible(label), INK, font, anchor="mm")
        pen.text((far, TITLE + near), _visible(label), INK, font, anchor="mm")
        for column, weight in enumerate(weights[row][: row + 1]):
            x, y = MARGIN + column * CELL, TITLE + MARGIN + row * CELL
            pen.rounded_rectangle((x, y, x + CELL - 3, y + CELL - 3), radius=3, fill=_shade(weight))
    return image


def _visible(label: str) -> str:
    r"""A token as a reader can see it: a space as ``_``, a line end as ``\n``."""
    shown = repr(label)[1:-1].replace(" ", "_")
    return shown if len(shown) <= 3 else f"{shown[:2]}…"  # a cell is no wider


def _shade(weight: float) -> tuple[int, int, int]:
    """From a pale blue (nothing) to a deep one (everything)."""
    low, high, share = (PALE, MIDDLE, 2 * weight) if weight < 0.5 else (MIDDLE, DEEP, 2 * weight - 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue
