"""The colors of charts."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from gptladder.report.palette import palette

# Two colors that differ by 20 in CIELAB look different, also when they are apart.
DISTANCE = 20


def linear(color: str) -> np.ndarray:
    channels = np.array(to_rgb(color))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(color: str) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ linear(color) / [0.9505, 1, 1.089])
    return np.array([116 * y, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 10, 12])
def test_up_to_twelve_colors_can_be_told_apart(n: int) -> None:
    assert min(np.linalg.norm(lab(a) - lab(b)) for a, b in combinations(palette(n), 2)) > DISTANCE


@pytest.mark.parametrize("background", ["#ffffff", "#11151c"])
def test_every_color_is_visible_on_white_and_on_the_dark_page(background: str) -> None:
    assert min(contrast(color, background) for color in palette(10)) > 2.8
