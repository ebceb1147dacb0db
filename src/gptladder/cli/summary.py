"""The summary that a run prints at its end."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gptladder.runs.naming import current_label
from gptladder.runs.published import SO_FAR
from gptladder.system.commands import resume_command, script_command
from gptladder.system.errors import printable

COLOURS = {"MATCH": "green", SO_FAR: "green", "DRIFT": "yellow"}


def summary(result: dict[str, Any], path: Path) -> RenderableType:
    """The summary of the current job: a panel for a single run, a line for a job of a sweep."""
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return summary_panel(result, path)
    # In a group, because rich wraps a text that it prints directly.
    return Group(summary_line(result, f"{current_label(result['model']):<12} seed {result['seed']}"))


def summary_line(result: dict[str, Any], label: str) -> Text:
    """A run in one line: its label, then ``   train 2.2440   val 2.2609   14.2 s   MATCH``."""
    verdict = (result["published"] or {}).get("verdict", "")
    ending = f"stopped at step {result['step']:,}" if result.get("stopped_by") else verdict
    return Text.assemble(
        (label, "bold"),
        "   ",
        _losses(result["train_estimate"], result["val_estimate"]),
        f"   {result['wall_seconds']:.1f} s   ",
        (ending, COLOURS.get(ending, "")),
        no_wrap=True,
        overflow="ignore",
    )


def summary_panel(result: dict[str, Any], path: Path) -> RenderableType:
    """The results of a run, the published ones, a text sample, and the commands that show more of it.

    A sample whose width on the screen is not certain comes below the frame, which it could break.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    shown = relative_path(path)
    for name, value in (*summary_rows(result), ("run", Text(str(shown), overflow="fold"))):
        table.add_row(name, value)
    lines = [shlex.join(["tensorboard", "--logdir", str(shown)])]
    if result["step"]:  # else there is no checkpoint
        lines += [script_command(name, "--run", str(shown)) for name in ("generate", "inspect")]
    if result.get("stopped_by") and result["step"]:
        lines.append(resume_command(shown))
    commands = [Text(line, style="cyan", overflow="fold") for line in lines]
    sample = Sample(printable(result["sample"].strip("\n"))) if result["step"] else None
    framed: list[RenderableType] = [Text(), sample] if sample is not None and sample.has_known_widths else []
    body = Group(table, *framed, Text(), *commands)
    panel = Panel(body, title=Text(result["model"], style="bold"), title_align="left", padding=(1, 2), width=100)
    return panel if framed or sample is None else Group(panel, sample)


class Sample:
    """Generated text whose lines stay apart: what continues a line that is too long begins with an arrow."""

    ARROW = "↳ "

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def has_known_widths(self) -> bool:
        """Whether every terminal shows the text from left to right, and each character as wide as the next one does."""
        return not any(
            unicodedata.bidirectional(char) in ("R", "AL", "AN") or unicodedata.category(char)[0] in "MC"
            for char in self.text.replace("\n", "")
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - len(self.ARROW), 1)
        for line in self.text.split("\n"):
            if cell_len(line) <= options.max_width:
                yield Text(line, style="italic", no_wrap=True)
                continue
            first, *others = Text(line, style="italic").wrap(console, width)
            yield first
            for part in others:
                yield Text.assemble((self.ARROW, "dim"), part)


def relative_path(path: Path) -> Path:
    """A path as a user would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def summary_rows(result: dict[str, Any]) -> Iterator[tuple[str, Text]]:
    """The results of a run that ended, by name."""
    rate = result["tokens_per_second"]
    yield "parameters", Text(f"{result['params']:,}")
    speed = f"   {result['tokens']:,} tokens, {rate:,} tokens/s" if rate else "   no steps taken"
    yield "steps", Text(f"{result['step']:,}{speed}")
    if result.get("device"):  # a GPU
        use = f"   {100 * result['mfu']:.1f} % of its peak (MFU)" if "mfu" in result else ""
        yield "device", Text(f"{result['device']}{use}")
    if result.get("stopped_by"):
        yield "", Text.assemble(("stopped early", "bold yellow"), f"   {result['stopped_by']}")
    if overfit := result.get("overfit"):
        yield "overfit", Text(f"loss {overfit['train_loss']:.4f} on {overfit['windows']} windows; below, on other text")
    yield "estimate", _losses(result["train_estimate"], result["val_estimate"])
    yield from _published(result)
    bits = f"{result['val_bits_per_char']:.4f} bits per character"
    yield "exact val loss", Text(f"{result['val_loss']:.4f}   {bits}")
    yield "best", Text(f"{result['best']['val_loss']:.4f} at step {result['best']['step']:,}")
    yield "time", Text(f"{result['train_seconds']:.1f} s training, {result['wall_seconds']:.1f} s total")


def _published(result: dict[str, Any]) -> Iterator[tuple[str, Text]]:
    published = result["published"]
    if published is None:
        yield "published", Text("not published for this config")
        return
    at = "" if published["step"] == result["step"] else f"   at step {published['step']:,}"
    verdict = published["verdict"]
    yield "published", _losses(published["train"], published["val"]).append(at)
    if verdict == SO_FAR:
        yield "", Text(f"{verdict} (step {published['step']:,} of {published['last_step']:,})", COLOURS[verdict])
        yield "", Text(_difference(published))
    else:
        yield "", Text.assemble((verdict, f"bold {COLOURS[verdict]}"), f"   {_difference(published)}")
    if verdict == "DRIFT":
        yield "", Text("this is not rounding: the code, a setting or the text differs (docs/verdict.md)")
    if published.get("worst_abs_diff"):  # else every digit agrees, or version 0.1 recorded it
        where = f"{published['worst_split']}, step {published['worst_step']:,}"
        yield "", Text(f"rounding explains up to {published['tolerance']:.4f} there ({where})")


def _difference(published: dict[str, Any]) -> str:
    worst = published.get("worst_abs_diff", published["max_abs_diff"])
    return f"{'largest' if worst == published['max_abs_diff'] else 'worst'} difference {worst:.4f}"


def _losses(train: float, val: float) -> Text:
    return Text(f"train {train:.4f}   val {val:.4f}")
