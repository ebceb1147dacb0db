"""The board that a chapter writes and draws on: a terminal in colour, or plain lines, and a directory for pictures."""

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
from gptladder.tour.outline import Chapter

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Item = TypeVar("Item")

WIDTH = 100  # of a paragraph, in characters
BAR = 14  # of a bar that stands for 1
UNFOLDED = 400  # of the plain console: no row of a table is ever folded


class Board:
    """Where chapters write, in the words and figures that they hand over.

    Args:
        conf: the directory of the configs, for the chapter that reads them.
        plain: neither colours nor boxes nor a progress line: the same lines on a terminal, in a file and in a pipe.
        save: a directory for pictures; without one, none is drawn.
        console: where the lines go; stdout if not given.
    """

    def __init__(
        self, *, conf: Path, plain: bool = False, save: Path | None = None, console: Console | None = None
    ) -> None:
        self.conf = conf
        self.plain = plain
        self.save = save
        self.console = console or (
            Console(color_system=None, force_terminal=False, width=UNFOLDED) if plain else Console(highlight=False)
        )

    def prepare(self) -> None:
        """Make the directory for pictures before anything is computed.

        Raises:
            UserError: it cannot be made.
        """
        if self.save is not None:
            try:
                self.save.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._unwritable(error) from None

    def open(self, chapter: Chapter) -> None:
        """Begin a chapter."""
        self.chapter = chapter
        heading = f"{chapter.number}. {chapter.title}"
        self.console.print()
        self.console.print(heading if self.plain else Rule(Text(heading, "bold"), align="left", style="dim"))
        self.console.print()

    def say(self, words: str) -> None:
        """A paragraph: what to see."""
        width = min(WIDTH, self.console.width)
        self.console.print(Text(textwrap.fill(" ".join(words.split()), width), "cyan"), soft_wrap=True)
        self.console.print()

    def facts(self, **values: object) -> None:
        """Values with their names, one a line; an underscore in a name is a space."""
        names = [name.replace("_", " ") for name in values]
        width = max(map(len, names))
        for name, value in zip(names, values.values(), strict=True):
            line = Text.assemble((f"{name:<{width}}", "dim"), f"  {value}")
            self.console.print(line, soft_wrap=True)
        self.console.print()

    def text(self, name: str, words: str) -> None:
        """A text as it is, line ends included, set in from the margin."""
        self.console.print(Text(name, "dim"))
        self.console.print(Text(textwrap.indent(words, "    ", lambda line: True), "italic"), soft_wrap=True)
        self.console.print()

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
        """Rows under headings; the first ``left`` columns are words, the others figures."""
        style = None if self.plain else box.SIMPLE_HEAD
        table = Table(box=style, show_edge=False, pad_edge=False, header_style="bold")
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="left" if place < left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
        self._print_lines(table)

    def matrix(self, name: str, numbers: Tensor) -> None:
        """The figures of a ``(rows, columns)`` tensor with four decimals, zeros faint."""
        self.console.print(Text(name, "dim"))
        table = Table.grid(padding=(0, 2))
        for _ in range(numbers.size(1)):
            table.add_column(justify="right")
        for row in numbers.tolist():
            table.add_row(*(Text(f"{x:.4f}", "" if x else "dim") for x in row))
        self._print_lines(table)

    def bars(self, labels: Sequence[str], panels: Mapping[str, Sequence[float]]) -> None:
        """Shares of one as bars, a column a panel."""
        stroke = "#" if self.plain else "█"
        rows = [
            [
                label,
                *(
                    Text.assemble((f"{stroke * round(BAR * share):<{BAR}}", "blue"), f" {share:.4f}")
                    for share in shares
                ),
            ]
            for label, *shares in zip(labels, *panels.values(), strict=True)
        ]
        self.table(["", *panels], rows, left=1 + len(panels))

    def track(self, steps: Iterable[Item], *, total: int, what: str) -> Iterable[Item]:
        """The steps themselves, with a progress line while they are taken if somebody watches."""
        watched = self.console.is_terminal and not self.plain
        return track(steps, what, total, console=self.console, transient=True, disable=not watched)

    def picture(self, name: str, draw: Callable[[], Figure]) -> None:
        """Draw a picture into the directory for them, if there is one.

        Raises:
            UserError: the directory cannot be written.
        """
        if self.save is None:
            return
        from gptladder.report.charts import png

        path = self.save / f"{self.chapter.number}-{name}.png"
        content = png(draw())
        try:
            with atomic_write(path) as file:
                file.write(content)
        except OSError as error:
            raise self._unwritable(error) from None
        self.console.print(Text(f"picture: {path}\n", "green"), soft_wrap=True)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"--save={self.save} cannot be written ({error.strerror}): name another directory")

    def _print_lines(self, table: Table) -> None:
        """A table, without the blanks that fill its lines up to the width of the plain console."""
        if not self.plain:
            self.console.print(table)
        else:
            with self.console.capture() as capture:
                self.console.print(table)
            for line in capture.get().splitlines():
                self.console.print(Text(line.rstrip()), soft_wrap=True)
        self.console.print()
