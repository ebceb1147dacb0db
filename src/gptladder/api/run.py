"""A run as a value: its result, its curve as a table, and the network that it trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptladder.api.pandas import import_pandas
from gptladder.runs import run
from gptladder.system.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from gptladder.api.trained import Trained


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory. What it shows is read from its files each time, so that it follows a run that still trains.

    Args:
        path: the directory of a run, of any status.

    Raises:
        UserError: there is no run.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).absolute())
        if not self.result:
            raise UserError(f"there is no run in {self.path}: name a directory with a result.json")

    @property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``; a run that was killed is ``interrupted``."""
        record = run.Run(self.path)
        return {**record.result, "status": record.status} if record.result else {}

    @property
    def curve(self) -> DataFrame:
        """The losses at every evaluation: ``step``, ``train_estimate``, ``val_estimate``, ``val_loss`` (the exact one).

        Raises:
            UserError: pandas is not installed.
        """
        columns = ["step", "train_estimate", "val_estimate", "val_loss"]
        table: DataFrame = import_pandas().DataFrame(self.result.get("curve") or [], columns=columns)
        return table

    def load(self, checkpoint: str = "last") -> Trained:
        """The network that it trained, with its tokenizer.

        Args:
            checkpoint: ``last``, or ``best`` for the lowest exact loss.

        Raises:
            UserError: there is no such checkpoint, or it is damaged.
        """
        from gptladder.api.trained import load

        return load(self.path / "checkpoints" / f"{checkpoint}.ckpt")

    def __repr__(self) -> str:
        result = self.result
        step = "" if result.get("step") is None else f", step {result['step']:,}"
        losses = "" if result.get("val_loss") is None else f", exact val loss {result['val_loss']:.4f}"
        return f"Run({str(self.path)!r}: {result.get('model')}, {result['status']}{step}{losses})"

    def _repr_html_(self) -> str:
        from gptladder.api.html import run_html

        return run_html(self.result, self.path)
