"""The tour's output in a notebook: the same lines, with prose as Markdown and plots as pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gptladder.runs.configs import CONF
from gptladder.tour.chapters import Chapter
from gptladder.tour.console import PLAIN_WIDTH, TourConsole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 80  # of the pictures, so that the whole notebook stays below a megabyte


class NotebookConsole(TourConsole):
    """Shows what the chapters print in the cells of a notebook."""

    def __init__(self) -> None:
        from IPython import display

        # Not as a notebook of rich's, which shows every line as HTML of its own.
        lines = Console(color_system=None, force_terminal=False, force_jupyter=False, width=PLAIN_WIDTH)
        super().__init__(conf=CONF, plain=True, console=lines)
        self._display: Any = display  # without types

    def start_chapter(self, chapter: Chapter) -> None:
        """The heading is a cell of its own."""

    def paragraph(self, text: str) -> None:
        """Show a paragraph of prose."""
        self._display.display(self._display.Markdown(markdown_text(text)))

    def code(self, *functions: Callable[..., object]) -> None:
        """Show the source of functions; those of the chapter itself are in a cell already."""
        super().code(*(function for function in functions if function.__module__ != "__main__"))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, n_left: int = 1) -> None:
        """Show a table, as HTML and, for a program without HTML, as lines."""
        cells = [[str(cell) for cell in row] for row in rows]
        with self.console.capture() as lines:
            super().table(headings, cells, n_left=n_left)
        bundle = {"text/plain": lines.get(), "text/html": _html_table(headings, cells, n_left)}
        self._display.display(bundle, raw=True)

    def save_plot(self, name: str, draw: Callable[[], Figure]) -> None:
        """Show a plot."""
        file = io.BytesIO()
        draw().savefig(file, format="png", dpi=DPI)
        self._display.display(self._display.Image(file.getvalue()))


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], n_left: int) -> str:
    styles = [f"text-align: {'left' if index < n_left else 'right'}" for index in range(len(headings))]

    def line(tag: str, cells: Sequence[str]) -> str:
        shown = zip(styles, cells, strict=True)
        return "<tr>" + "".join(f'<{tag} style="{style}">{_html_text(cell)}</{tag}>' for style, cell in shown) + "</tr>"

    body = "\n".join(line("td", cells) for cells in rows)
    return f"<table>\n<thead>{line('th', headings)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_text(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def markdown_text(text: str) -> str:
    """A paragraph on one line, without characters that Markdown would take for markup."""
    return "".join(
        f"\\{character}" if character in "\\`*_{}[]<>#|" else character for character in " ".join(text.split())
    )
