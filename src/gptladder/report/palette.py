"""The colors of the rungs: one scale along the ladder, readable on white and on black."""

from __future__ import annotations

from matplotlib.colors import LinearSegmentedColormap, to_hex

SCALE = LinearSegmentedColormap.from_list("ladder", ["#8a63d2", "#3b82d6", "#1d9a8a", "#7a9a2e", "#d98a1c", "#d9534a"])


def palette(n: int) -> list[str]:
    """``n`` colors, from the bottom of the ladder to its top."""
    return [to_hex(SCALE(index / max(n - 1, 1))) for index in range(n)]
