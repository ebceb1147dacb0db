"""The colors of the rungs: the hues of the rainbow along the ladder, readable on white and on black.

Every second color is darker, so that ten of them can be told apart: neighbors of one lightness differ half as much.
"""

from __future__ import annotations

from matplotlib.colors import LinearSegmentedColormap, to_hex

# Hues at equal distances from purple to red, of two lightnesses (64 % and 52 % in Oklch).
LIGHT = [
    "#b661da", "#7c77fb", "#0090f8", "#00a5d1", "#00ae91",
    "#08a93c", "#8f9500", "#c77900", "#e45b00", "#e74d6d",
]  # fmt: skip
DARK = [
    "#903ab2", "#5c51d1", "#006ace", "#007faa", "#00886e",
    "#00830c", "#6c7100", "#a05300", "#ba3200", "#bc1f4b",
]  # fmt: skip
SCALES = [LinearSegmentedColormap.from_list("ladder", colors) for colors in (LIGHT, DARK)]


def palette(n: int) -> list[str]:
    """``n`` colors, from the bottom of the ladder to its top."""
    return [to_hex(SCALES[index % 2](index / max(n - 1, 1))) for index in range(n)]
