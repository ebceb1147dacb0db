"""The tour: the lecture's notebooks, chapter by chapter, with the package's own parts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module

from gptladder.tour.chapters import Chapter, select_chapters
from gptladder.tour.console import TourConsole

__all__ = ["TourConsole", "run_tour", "select_chapters"]


def run_tour(chapters: Iterable[Chapter], console: TourConsole) -> None:
    """Show chapters one after another; torch's random state and number of threads are restored afterwards.

    Raises:
        UserError: the console's directory for plots cannot be written.
    """
    console.create_save_directory()
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it announces that it builds a font cache

    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for tensors this small, a second thread waits longer than it helps
    try:
        for chapter in chapters:
            console.start_chapter(chapter)
            # Each chapter is imported when it is shown: some need Hydra or matplotlib, which take seconds.
            with torch.random.fork_rng(devices=[]):
                import_module(f"gptladder.tour.{chapter.name}").show(console)
    finally:
        torch.set_num_threads(n_threads)
