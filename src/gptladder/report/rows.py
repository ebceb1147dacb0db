"""A row of the table: the runs that differ in nothing but their seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import hypot, sqrt

from gptladder.report.changes import Change, changes, said_shortly
from gptladder.report.collect import Reading

LADDER = (
    "bigram", "embedding", "average", "singlehead", "multihead", "feedforward", "blocks", "residual", "layernorm",
    "dropout", "gpt",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """A mean over seeds; ``std`` is the sample's and needs two of them."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        numbers = [float(value) for value in values if value is not None]
        if not numbers:
            return None
        mean = sum(numbers) / len(numbers)  # statistics.mean cannot average what is not finite
        n = len(numbers)
        std = hypot(*(number - mean for number in numbers)) / sqrt(n - 1) if n > 1 else None
        return cls(mean, std, n)


@dataclass(frozen=True)
class Difference:
    """Of the exact loss between two rows, seed by seed: what all seeds share cancels."""

    mean: float
    error: float | None
    n: int

    @property
    def within_noise(self) -> bool | None:
        """Nobody knows with one seed."""
        return None if self.error is None else abs(self.mean) <= 2 * self.error


@dataclass(frozen=True)
class Row:
    """The runs of one label, held against a row that they are to be compared with."""

    label: str
    readings: tuple[Reading, ...]
    reference: Row | None

    @property
    def rung(self) -> str:
        return self.readings[0].rung

    @cached_property
    def finished(self) -> tuple[Reading, ...]:
        return tuple(reading for reading in self.readings if reading.status == "finished")

    @property
    def measured(self) -> tuple[Reading, ...]:
        """The runs whose figures stand for the row: the finished ones or, before there are any, all."""
        return self.finished or self.readings

    @property
    def failures(self) -> list[Reading]:
        return [reading for reading in self.readings if reading.status == "failed"]

    @property
    def verdicts(self) -> set[str]:
        return {str(reading.result["published"].get("verdict")) for reading in self._compared}

    @property
    def status(self) -> str:
        """The verdict of what finished, and what else there is to say."""
        verdict = "DRIFT" if "DRIFT" in self.verdicts else "MATCH" if "MATCH" in self.verdicts else "finished"
        others = Counter(reading.status.upper() for reading in self.readings if reading not in self.finished)
        if not self.finished and len(others) == 1:
            return next(iter(others))
        counted = [f"{n} of {len(self.readings)} {status}" for status, n in sorted(others.items())]
        return ", ".join([verdict, *counted] if self.finished else counted)

    @property
    def published(self) -> tuple[float, float] | None:
        """The train and val estimate that were published for this recipe."""
        figures = (reading.result["published"] for reading in self._compared)
        return next(((figure["train"], figure["val"]) for figure in figures), None)

    @property
    def largest_difference(self) -> float | None:
        return max((reading.result["published"]["max_abs_diff"] for reading in self._compared), default=None)

    @cached_property
    def changes(self) -> list[Change]:
        return changes(self.reference.readings[0].config, self.readings[0].config) if self.reference else []

    @property
    def changed(self) -> str:
        return said_shortly(self.changes)

    @property
    def difference(self) -> Difference | None:
        """What the row has over its reference: below zero is better.

        None where the tokens are others: a loss a token compares with no other tokenizer's, bits a character do.
        """
        if self.reference is None or len(self._tokenizers | self.reference._tokenizers) > 1:
            return None
        mine, theirs = (
            {reading.seed: reading.number("val_loss") for reading in row.finished} for row in (self, self.reference)
        )
        pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
        spread = Spread.of(a - b for a, b in pairs if a is not None and b is not None)
        if spread is None:
            return None
        return Difference(spread.mean, None if spread.std is None else spread.std / sqrt(spread.n), spread.n)

    @property
    def sample(self) -> str:
        """What the first run that wrote any text wrote."""
        return next((run.sample for run in self.measured if run.sample), "")

    def spread(self, key: str) -> Spread | None:
        """A figure of ``result.json`` over the row's runs."""
        return Spread.of(reading.number(key) for reading in self.measured)

    @property
    def _tokenizers(self) -> set[str]:
        """As far as configs are left to tell."""
        return {str(reading.config["tokenizer"]) for reading in self.readings if "tokenizer" in reading.config}

    @property
    def _compared(self) -> list[Reading]:
        return [reading for reading in self.finished if reading.result.get("published")]


def arranged(readings: Iterable[Reading]) -> list[Row]:
    """Rows in the order of the sweep, then of the ladder.

    A row is compared with the row above it; variants of one rung with the first row of that rung, and the next
    rung with that too, so that a comparison never mixes two changes.
    """
    groups: dict[str, list[Reading]] = {}
    for reading in readings:
        groups.setdefault(reading.label, []).append(reading)
    rows: list[Row] = []
    base: Row | None = None
    for label, group in sorted(groups.items(), key=lambda item: _place(*item)):
        row = Row(label, tuple(sorted(group, key=lambda reading: _order(reading.seed))), base)
        rows.append(row)
        if base is None or row.rung != base.rung:
            base = row
    return rows


def _order(seed: int | str | None) -> tuple[bool, int, str]:
    """Numbers by size; whatever a refused job called its seed comes after them."""
    return (False, seed, "") if isinstance(seed, int) else (True, 0, str(seed))


def _place(label: str, group: list[Reading]) -> tuple[float, int, str, str]:
    rung = group[0].rung
    step = LADDER.index(rung) if rung in LADDER else len(LADDER)
    return min(reading.job for reading in group), step, rung, label
