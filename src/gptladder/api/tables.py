"""The runs of a directory as one table, and their report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gptladder.api.pandas import import_pandas
from gptladder.report import Report, write_report
from gptladder.report.load_runs import RunRecord, load_runs
from gptladder.system.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    "step", "params", "train_estimate", "val_estimate", "val_loss", "val_bits_per_char", "tokens", "tokens_per_second",
    "wall_seconds",
)  # fmt: skip


def runs(directory: str | Path) -> DataFrame:
    """All runs in a directory, at any depth, one per line.

    Returns:
        ``model``, ``seed``, ``status``, then a column for each key that a run overrides (empty where it does not), then
        the results: ``step``, ``params``, the two estimates, ``val_loss`` (exact), ``val_bits_per_char``, ``verdict``,
        ``tokens``, ``tokens_per_second``, ``wall_seconds``; ``path`` comes last.

    Raises:
        UserError: there is no such directory, or no run in it; or pandas is not installed.
    """
    pandas = import_pandas()
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: name one that contains runs")
    records = sorted(load_runs(directory), key=lambda record: (record.job, str(record.path)))
    if not records:
        raise UserError(f"no runs found in {directory}: each run writes a result.json")
    keys = dict.fromkeys(key for record in records for key in record.settings)
    table: DataFrame = pandas.DataFrame([_line(record, list(keys)) for record in records])
    return table


def _line(record: RunRecord, keys: list[str]) -> dict[str, Any]:
    published = record.result.get("published") or {}
    return {
        "model": record.rung,
        "seed": record.seed,
        "status": record.status,
        **{key: _value(record.settings.get(key)) for key in keys},
        **{key: record.result.get(key) for key in COLUMNS},
        "verdict": published.get("verdict"),
        "path": str(record.path),
    }


def _value(override: str | None) -> Any:
    """The value of an override such as ``optimizer.lr=1e-3``; a number if it is one."""
    if override is None:
        return None
    text = override.partition("=")[2]
    try:
        return float(text) if not text.isdecimal() else int(text)
    except ValueError:
        return yaml.safe_load(text) if text in ("true", "false", "null") else text.strip("'\"")


def report(directory: str | Path, out: str | Path | None = None) -> Report:
    """Write the tables, charts and the page of all runs in a directory, at any depth.

    Args:
        directory: where the runs are; some may still be running.
        out: where the files go; ``directory`` itself by default.

    Returns:
        The report; a notebook shows its table.

    Raises:
        UserError: there is no such directory, or no run in it.
    """
    return write_report(Path(directory), None if out is None else Path(out))
