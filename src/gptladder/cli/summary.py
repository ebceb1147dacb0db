"""The summary that a run prints at its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gptladder.runs.naming import VARYING, job_label, key_of
from gptladder.runs.published import SO_FAR
from gptladder.system.errors import printable

COLOURS = {"MATCH": "green", SO_FAR: "green", "DRIFT": "yellow"}


def summary(result: dict[str, Any], path: Path) -> RenderableType:
    """The summary of the current job: a panel for a single run, a line for a job of a sweep."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return summary_panel(result, path)
    varying = os.environ.get(VARYING, "").split(",")
    shown = [word for word in hydra.overrides.task if key_of(word) in varying and key_of(word) != "seed"]
    return summary_line(result, job_label(result["model"], shown))


def summary_line(result: dict[str, Any], label: str) -> Text:
    """A run in one line: ``multihead-lr0.01 seed 1337   train 2.2440   val 2.2609   14.2 s   MATCH``."""
    verdict = (result["published"] or {}).get("verdict", "")
    ending = f"stopped at step {result['step']:,}" if result.get("stopped_by") else verdict
    return Text.assemble(
        (f"{label:<12}", "bold"),
        f" seed {result['seed']}   ",
        _losses(result["train_estimate"], result["val_estimate"]),
        f"   {result['wall_seconds']:.1f} s   ",
        (ending, COLOURS.get(ending, "")),
        no_wrap=True,
        overflow="ignore",
    )


def summary_panel(result: dict[str, Any], path: Path) -> Panel:
    """The results of a run, the published ones, a text sample, and the command that shows its curves."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    for name, value in (*_rows(result), ("run", Text(str(shown), overflow="fold"))):
        table.add_row(name, value)
    words = [["tensorboard", "--logdir", str(shown)]]
    if result["step"]:  # else there is no checkpoint
        words += [["python", f"scripts/{name}.py", "--run", str(shown)] for name in ("generate", "inspect_run")]
    if result.get("stopped_by") and result["step"]:
        words.append(["python", "train.py", f"resume={shown}"])
    commands = [Text(shlex.join(each), style="cyan", overflow="fold") for each in words]
    sample = [Text(), Text(printable(result["sample"].strip("\n")), style="italic")] if result["step"] else []
    body = Group(table, *sample, Text(), *commands)
    return Panel(body, title=Text(result["model"], style="bold"), title_align="left", padding=(1, 2), width=100)


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, Text]]:
    rate = result["tokens_per_second"]
    yield "parameters", Text(f"{result['params']:,}")
    speed = f"   {result['tokens']:,} tokens, {rate:,} tokens/s" if rate else "   no steps taken"
    yield "steps", Text(f"{result['step']:,}{speed}")
    if result.get("device"):  # a GPU
        use = f"   {100 * result['mfu']:.1f} % of its peak (MFU)" if "mfu" in result else ""
        yield "device", Text(f"{result['device']}{use}")
    if result.get("stopped_by"):
        yield "", Text.assemble(("stopped early", "bold yellow"), f"   {result['stopped_by']}")
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
