"""The tour: the lecture's notebooks retold with the package's own parts, a chapter at a time."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from gptladder.tour.board import Board
from gptladder.tour.outline import Chapter, chosen

__all__ = ["Board", "chosen", "guide"]


def guide(chapters: Iterable[Chapter], board: Board) -> None:
    """Show chapters one after another, and leave the caller's random numbers and threads as they were.

    Raises:
        UserError: the board's directory for pictures cannot be written.
    """
    board.prepare()

    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one costs tensors this small more in waiting than it brings
    try:
        for chapter in chapters:
            board.open(chapter)
            # Imported when its turn comes: some chapters need Lightning, which takes seconds.
            with torch.random.fork_rng(devices=[]):
                import_module(f"gptladder.tour.{chapter.name}").show(board)
    finally:
        torch.set_num_threads(n_threads)
