"""Chapter 9: the rungs from the first to the last, what each changes and where it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.text import Text

from gptladder.cli.help import idea, in_order
from gptladder.report.changes import changes, said_shortly
from gptladder.runs.published import published
from gptladder.tour.board import Board
from gptladder.tour.pictures import rungs as draw_rungs

UNPUBLISHED = "—"


class Rung(NamedTuple):
    """A rung: its idea in a sentence, the keys that it changes, and the last published val estimate, if any."""

    name: str
    idea: str
    keys: str
    val: float | None

    @property
    def command(self) -> str:
        return f"python train.py model={self.name}"


def rungs(conf: Path) -> list[Rung]:
    """Every rung in ``conf/model``, each compared with the one that it inherits from."""
    files = in_order(conf / "model")
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        configs = [_recipe(file.stem) for file in files]
    return [
        Rung(file.stem, idea(file), said_shortly(changes(below, config)), _last_val(file.stem))
        for file, below, config in zip(files, [{}, *configs], configs, strict=False)
    ]


def show(board: Board) -> None:
    """Print the ladder, and draw where its rungs end."""
    ladder = rungs(board.conf)
    measured = {rung.name: rung.val for rung in ladder if rung.val is not None}
    names, losses = list(measured), list(measured.values())
    worse = [name for name, below, loss in zip(names[1:], losses, losses[1:], strict=False) if loss > below]
    board.say(
        f"Each rung is one config that changes one thing of the rung below. From {names[0]} to {names[-1]} the "
        f"published val estimate falls from {losses[0]:.4f} to {losses[-1]:.4f}, but not at every step: look at "
        f"{', '.join(worse)}. Each command trains its rung and compares it with the published curve."
    )
    board.table(
        ["rung", "what changes, and the command", "published val"],
        [(rung.name, _told(rung), UNPUBLISHED if rung.val is None else f"{rung.val:.4f}") for rung in ladder],
        left=2,
    )
    board.facts(all_of_them="python train.py experiment=ladder")
    board.picture("ladder", lambda: draw_rungs(names, losses, "published val estimate, nats a character"))


def _told(rung: Rung) -> Text:
    keys = f"{rung.keys}\n" if rung.keys else ""
    return Text.assemble(f"{rung.idea}\n", (keys, "dim"), (rung.command, "cyan"))


def _recipe(rung: str) -> dict[str, Any]:
    config = OmegaConf.to_container(compose("train", [f"model={rung}"]), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _last_val(rung: str) -> float | None:
    if rung not in published():
        return None
    _, _, val = published()[rung]["curve"][-1]
    return float(val)
