"""Aggregate runs into rows: runs that differ only in their seed share one row of the table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gptladder.report.config_diff import Change, config_diff, summarize
from gptladder.report.load_runs import RunRecord
from gptladder.report.statistics import Mean, PairedDifference, correct_p_values
from gptladder.runs.configs import CONF, sorted_by_inheritance
from gptladder.runs.naming import job_label, job_name
from gptladder.runs.published import VERDICTS
from gptladder.runs.run import ENDED


@dataclass(frozen=True)
class Row:
    """The runs with one name, and the row that they are compared with.

    Attributes:
        name: has all settings of the runs.
        label: has only those that not all runs of the report share.
        difference: the exact loss minus that of the reference, negative is better; see ``paired_difference``.
    """

    name: str
    label: str
    runs: tuple[RunRecord, ...]
    reference: Row | None
    difference: PairedDifference | None = None

    @property
    def rung(self) -> str:
        return self.runs[0].rung

    @cached_property
    def ended(self) -> tuple[RunRecord, ...]:
        """The runs that ended as their configs say: at the last step, or where early stopping or a limit ended them."""
        return tuple(run for run in self.runs if run.status in ENDED)

    @property
    def representative(self) -> tuple[RunRecord, ...]:
        """The runs whose values the row shows: the finished ones or, if there are none, all."""
        return self.ended or self.runs

    @property
    def failures(self) -> list[RunRecord]:
        return [run for run in self.runs if run.status == "failed"]

    @property
    def verdicts(self) -> set[str]:
        return {str(run.result["published"].get("verdict")) for run in self._compared}

    @property
    def status(self) -> str:
        """The verdict over the finished runs, and the number of others by status."""
        verdict = next((verdict for verdict in VERDICTS if verdict in self.verdicts), "finished")
        others = Counter(run.status.upper() for run in self.runs if run.status != "finished")
        if others.total() == len(self.runs) and len(others) == 1:
            return next(iter(others))
        counted = [f"{n} of {len(self.runs)} {status}" for status, n in sorted(others.items())]
        return ", ".join([verdict, *counted] if others.total() < len(self.runs) else counted)

    @property
    def published(self) -> tuple[float, float] | None:
        """The published train and val estimate of this recipe."""
        losses = (run.result["published"] for run in self._compared)
        return next(((loss["train"], loss["val"]) for loss in losses), None)

    @property
    def worst_point(self) -> dict[str, Any] | None:
        """The comparison with the published curve that ``result.json`` records, of the worst run.

        Records of version 0.1 have ``max_abs_diff`` only.
        """
        return max((run.result["published"] for run in self._compared), key=lambda p: p["max_abs_diff"], default=None)

    @cached_property
    def description(self) -> str:
        """What the rung or the ablation is, in a sentence; empty if unknown."""
        return self.runs[0].description

    @cached_property
    def changes(self) -> list[Change]:
        """The keys of the config that differ from the reference."""
        return config_diff(self.reference.runs[0].config, self.runs[0].config) if self.reference else []

    @property
    def changed_keys(self) -> str:
        """The same in one line."""
        return summarize(self.changes)

    @cached_property
    def what_changed(self) -> str:
        """The description of a rung or ablation; of a row that differs by other overrides, what they change."""
        if self.reference is None:
            return self.description
        run, other = self.runs[0], self.reference.runs[0]
        settings = [
            override
            for key, override in run.settings.items()
            if key != "ablation" and other.settings.get(key) != override
        ]
        if (run.rung, run.ablation) == (other.rung, other.ablation):
            return self.changed_keys or " ".join(settings)
        if not self.description:
            return self.changed_keys
        return f"{self.description} ({' '.join(settings)})" if settings else self.description

    @property
    def tags(self) -> list[str]:
        """The tags of the runs, each once."""
        return list(dict.fromkeys(tag for run in self.runs for tag in run.tags))

    @property
    def notes(self) -> list[str]:
        """The notes of the runs, each once."""
        return list(dict.fromkeys(run.notes for run in self.runs if run.notes))

    @property
    def sample(self) -> str:
        """The sample of the first run that has one."""
        return next((run.sample for run in self.representative if run.sample), "")

    def mean(self, key: str) -> Mean | None:
        """The mean of a value of ``result.json`` over the runs of the row."""
        return Mean.from_values(run.number(key) for run in self.representative)

    def run_name(self, run: RunRecord) -> str:
        """The name of one run of the row."""
        return self.label if run.seed is None else f"{self.label}, seed {run.seed}"

    @property
    def tokenizers(self) -> set[str]:
        """The tokenizers of the runs that have a recorded config."""
        return {str(run.config["tokenizer"]) for run in self.runs if "tokenizer" in run.config}

    @property
    def bits_per_nat(self) -> float | None:
        """Bits per character of one nat per token, for the tokenizer of the row."""
        factors = [
            bits / loss
            for run in self.representative
            if (bits := run.number("val_bits_per_char")) and (loss := run.number("val_loss"))
        ]
        return sum(factors) / len(factors) if factors else None

    @property
    def _compared(self) -> list[RunRecord]:
        return [run for run in self.ended if run.result.get("published")]


def group_runs(records: Iterable[RunRecord]) -> list[Row]:
    """Group runs into rows, in the order of the sweep, then of the ladder.

    A row is compared with the row before it; variants of a rung with the first row of that rung, and the next rung
    with that row too, so that no comparison mixes two changes.
    """
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.label, []).append(record)
    order = {path.stem: index for index, path in enumerate(sorted_by_inheritance(CONF / "model"))}

    def position(name: str) -> tuple[float, int, str, str]:
        rung = groups[name][0].rung
        return min(record.job for record in groups[name]), order.get(rung, len(order)), rung, name

    labels = _labels(groups)
    rows: list[Row] = []
    base: Row | None = None
    for name in sorted(groups, key=position):
        runs = tuple(sorted(groups[name], key=lambda record: _seed_order(record.seed)))
        row = Row(name, labels[name], runs, base)
        row = replace(row, difference=paired_difference(row, base) if base else None)
        rows.append(row)
        if base is None or row.rung != base.rung:
            base = row
    differences = {row.name: row.difference for row in rows if row.difference}
    corrected = dict(zip(differences, correct_p_values(list(differences.values())), strict=True))
    return [replace(row, difference=corrected.get(row.name)) for row in rows]


def paired_difference(row: Row, reference: Row) -> PairedDifference | None:
    """The exact loss of a row minus that of another, seed by seed.

    ``None`` where they share no seed, or have different tokenizers, so that losses per token are not comparable.
    """
    if len(row.tokenizers | reference.tokenizers) > 1:
        return None
    losses, reference_losses = ({run.seed: run.number("val_loss") for run in r.ended} for r in (row, reference))
    pairs = [(loss, reference_losses[seed]) for seed, loss in losses.items() if seed in reference_losses]
    return PairedDifference.from_values(a - b for a, b in pairs if a is not None and b is not None)


def has_several_tokenizers(rows: Iterable[Row]) -> bool:
    """Whether the losses per token of the rows are not comparable, so that only bits per character are."""
    return len(set().union(*(row.tokenizers for row in rows))) > 1


def shared_settings(rows: list[Row]) -> list[str]:
    """The overrides that the labels of the rows leave out, because all runs share them."""
    if all(row.label == row.name for row in rows):
        return []
    return _shared_overrides(run for row in rows for run in row.runs)


def _labels(groups: dict[str, list[RunRecord]]) -> dict[str, str]:
    """A label for each group, of what varies among them; the full names if labels would collide."""
    shared = _shared_overrides(record for group in groups.values() for record in group) if len(groups) > 1 else []
    labels = {name: _label(name, group, shared) for name, group in groups.items()}
    return labels if len(set(labels.values())) == len(labels) else {name: name for name in groups}


def _label(name: str, group: list[RunRecord], shared: list[str]) -> str:
    record = next((record for record in group if record.overrides is not None), None)
    if record is not None:
        return job_label(record.rung, [override for override in record.settings.values() if override not in shared])
    for override in shared:  # no job has started: only the directories have names
        part = job_name("", [override])  # "-max_steps40"
        name = re.sub(rf"{re.escape(part)}(?=-|$)", "", name, count=1)
    return name


def _shared_overrides(records: Iterable[RunRecord]) -> list[str]:
    settings = [record.settings for record in records if record.overrides is not None]
    first = settings[0] if settings else {}
    return [override for key, override in first.items() if all(other.get(key) == override for other in settings)]


def _seed_order(seed: int | str | None) -> tuple[bool, int, str]:
    """Integers by size; the seed of a job that was refused because of it comes after them."""
    return (False, seed, "") if isinstance(seed, int) else (True, 0, str(seed))
