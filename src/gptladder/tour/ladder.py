"""Chapter 9: the rungs from the first to the last, what each of them changes, and the loss that it reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.text import Text

from gptladder.report.config_diff import config_diff, summarize
from gptladder.runs.configs import first_comment, sorted_by_inheritance
from gptladder.runs.published import published
from gptladder.system.commands import train_command
from gptladder.tour.console import TourConsole
from gptladder.tour.plots import plot_rungs

UNPUBLISHED = "—"


class Rung(NamedTuple):
    """A rung: its idea in one sentence, the keys that it changes, and the last published val estimate, if any."""

    name: str
    idea: str
    changes: str
    val_estimate: float | None

    @property
    def command(self) -> str:
        return train_command(f"model={self.name}")


def load_rungs(conf: Path) -> list[Rung]:
    """Load every rung in ``conf/model``, and compare each with the rung before it."""
    files = sorted_by_inheritance(conf / "model")
    with initialize_config_dir(str(conf.absolute()), version_base="1.3"):
        configs = [_compose(file.stem) for file in files]
    return [
        Rung(file.stem, first_comment(file), summarize(config_diff(previous, config)), _last_val_estimate(file.stem))
        for file, previous, config in zip(files, [{}, *configs], configs, strict=False)
    ]


def show(console: TourConsole) -> None:
    """Print the ladder, and plot the loss of each rung."""
    ladder = load_rungs(console.conf)
    estimates = {rung.name: rung.val_estimate for rung in ladder if rung.val_estimate is not None}
    names, losses = list(estimates), list(estimates.values())
    worse = [name for name, previous, loss in zip(names[1:], losses, losses[1:], strict=False) if loss > previous]
    console.paragraph(
        "Each rung is one config: it inherits from the rung before it and states only what it changes. From "
        f"{names[0]} to {names[-1]}, the published val estimate falls from {losses[0]:.4f} to {losses[-1]:.4f}, but "
        f"not at every rung: {' and '.join(worse)} are worse than the rungs before them. Each command below trains "
        "one rung and compares it with the published curve."
    )
    console.code(load_rungs)
    console.table(
        ["rung", "changes and command", "published val"],
        [
            (rung.name, _describe(rung), UNPUBLISHED if rung.val_estimate is None else f"{rung.val_estimate:.4f}")
            for rung in ladder
        ],
        n_left=2,
    )
    console.values(lecture=train_command("experiment=ladder"), from_nanogpt_to_llama=train_command("experiment=modern"))
    console.save_plot("ladder", lambda: plot_rungs(names, losses, "published val estimate"))


def _describe(rung: Rung) -> Text:
    changes = f"{rung.changes}\n" if rung.changes else ""
    return Text.assemble(f"{rung.idea}\n", (changes, "dim"), (rung.command, "cyan"))


def _compose(rung: str) -> dict[str, Any]:
    config = OmegaConf.to_container(compose("train", [f"model={rung}"]), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _last_val_estimate(rung: str) -> float | None:
    if rung not in published():
        return None
    _, _, val = published()[rung]["curve"][-1]
    return float(val)
