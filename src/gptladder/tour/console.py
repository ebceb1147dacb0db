"""The tour's output: colors on a terminal or plain lines, and plots in a directory."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich import box
from rich.console import Console
from rich.progress import track
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write
from gptladder.tour.chapters import Chapter
from gptladder.tour.source import locate, read_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Item = TypeVar("Item")

PARAGRAPH_WIDTH = 100  # characters
BAR_WIDTH = 14  # characters of a bar that stands for 1
PLAIN_WIDTH = 1000  # characters: no table row is ever wrapped


class TourConsole:
    """Prints paragraphs, values, tables and text charts, and saves plots.

    Args:
        conf: the directory of the configs, for the chapter on the ladder.
        plain: no colors, boxes or progress bars: the same lines on a terminal, in a file and in a pipe.
        save: the directory for plots; ``None`` draws none.
        console: the rich console to print to; stdout by default.
    """

    def __init__(
        self, *, conf: Path, plain: bool = False, save: Path | None = None, console: Console | None = None
    ) -> None:
        self.conf = conf
        self.plain = plain
        self.save = save
        self.console = console or (
            Console(color_system=None, force_terminal=False, width=PLAIN_WIDTH) if plain else Console(highlight=False)
        )
        self.chapter_number = 0

    def create_save_directory(self) -> None:
        """Create the directory for plots, before anything is computed.

        Raises:
            UserError: it cannot be created.
        """
        if self.save is not None:
            try:
                self.save.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._cannot_write(error) from None

    def start_chapter(self, chapter: Chapter) -> None:
        """Print the heading of a chapter."""
        self.chapter_number = chapter.number
        heading = f"{chapter.number}. {chapter.title}"
        self.console.print()
        self.console.print(Text(heading) if self.plain else Rule(Text(heading, "bold"), align="left", style="dim"))
        self.console.print()

    def paragraph(self, text: str) -> None:
        """Print a paragraph of prose."""
        width = min(PARAGRAPH_WIDTH, self.console.width)
        self.console.print(Text(textwrap.fill(" ".join(text.split()), width), "cyan"), soft_wrap=True)
        self.console.print()

    def values(self, **values: object) -> None:
        """Print names and values, one per line; underscores in names become spaces."""
        names = [name.replace("_", " ") for name in values]
        width = max(map(len, names))
        for name, value in zip(names, values.values(), strict=True):
            line = Text.assemble((f"{name:<{width}}", "dim"), f"  {value}")
            self.console.print(line, soft_wrap=True)
        self.console.print()

    def quote(self, title: str, text: str) -> None:
        """Print a text unchanged, with its line breaks, indented."""
        self.console.print(Text(title, "dim"))
        self.console.print(Text(textwrap.indent(text, "    ", lambda line: True), "italic"), soft_wrap=True)
        self.console.print()

    def code(self, *functions: Callable[..., object]) -> None:
        """Print the source of functions that the chapter runs, without their docstrings, and where it is."""
        for function in functions:
            place = Text.assemble((locate(function), "dim"), "  ", (function.__qualname__, "bold"))
            self.console.print(place, soft_wrap=True)
            self.console.print(Text(textwrap.indent(read_source(function), "    ")), soft_wrap=True)
            self.console.print()

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, n_left: int = 1) -> None:
        """Print a table; the first ``n_left`` columns are left-aligned, the others right-aligned."""
        table = Table(box=None if self.plain else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for index, heading in enumerate(headings):
            table.add_column(Text(heading), justify="left" if index < n_left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
        self._print_table(table)

    def matrix(self, title: str, matrix: Tensor) -> None:
        """Print a ``(rows, columns)`` tensor with four decimals, zeros dimmed."""
        self.console.print(Text(title, "dim"))
        table = Table.grid(padding=(0, 2))
        for _ in range(matrix.size(1)):
            table.add_column(justify="right")
        for row in matrix.tolist():
            table.add_row(*(Text(f"{x:.4f}", "" if x else "dim") for x in row))
        self._print_table(table)

    def bar_chart(self, labels: Sequence[str], panels: Mapping[str, Sequence[float]]) -> None:
        """Print values between 0 and 1 as horizontal bars, one column per panel."""
        mark = "#" if self.plain else "█"

        def bar(value: float) -> Text:
            return Text.assemble((f"{mark * round(BAR_WIDTH * value):<{BAR_WIDTH}}", "blue"), f" {value:.4f}")

        rows = [[label, *map(bar, values)] for label, *values in zip(labels, *panels.values(), strict=True)]
        self.table(["", *panels], rows, n_left=1 + len(panels))

    def progress(self, steps: Iterable[Item], *, total: int, description: str) -> Iterable[Item]:
        """Iterate over steps, with a progress bar on a terminal."""
        disable = self.plain or not self.console.is_terminal
        return track(steps, description, total, console=self.console, transient=True, disable=disable)

    def save_plot(self, name: str, draw: Callable[[], Figure]) -> None:
        """Draw a plot and save it as PNG, if there is a directory for plots.

        Raises:
            UserError: the directory cannot be written.
        """
        if self.save is None:
            return
        path = self.save / f"{self.chapter_number}-{name}.png"
        figure = draw()
        try:
            with atomic_write(path) as file:
                figure.savefig(file, format="png")
        except OSError as error:
            raise self._cannot_write(error) from None
        self.console.print(Text(f"plot: {path}\n", "green"), soft_wrap=True)

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(f"--save={self.save} cannot be written ({error.strerror}): name another directory")

    def _print_table(self, table: Table) -> None:
        """Print a table; plain lines lose the spaces that pad them to the width of the console."""
        if not self.plain:
            self.console.print(table)
        else:
            with self.console.capture() as capture:
                self.console.print(table)
            for line in capture.get().splitlines():
                self.console.print(Text(line.rstrip()), soft_wrap=True)
        self.console.print()
