"""A study of Optuna whose trials are recorded in a plain file, and whose numbers are short."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write
from gptladder.system.records import read_json

# The settings of a search and the values of its trials; their results are in the run directories.
SEARCH = "search.json"
DIGITS = 3


class RecordedStudy:
    """The trials of a search, numbered from 0, and Optuna's study of those that ended.

    Args:
        directory: of the search; ``None`` records nothing.
        space: the distribution of each key.
        sampler: the config of a sampler.
        settings: what all trials share.
        fresh: forget earlier trials.

    Attributes:
        trials: the values of each trial, by key.
        values: the metric of each trial that ended, ``None`` for one that failed.

    Raises:
        UserError: the directory holds another search, or its record is damaged.
    """

    def __init__(
        self,
        directory: Path | None,
        space: Mapping[str, BaseDistribution],
        sampler: dict[str, Any],
        *,
        settings: dict[str, str] | None = None,
        fresh: bool = False,
    ) -> None:
        optuna.logging.set_verbosity(logging.WARNING)
        self.path = None if directory is None else directory / SEARCH
        self.space = dict(space)
        self.settings = settings or {}
        self.trials: list[dict[str, Any]] = []
        self.values: dict[int, float | None] = {}
        self._sampler = sampler
        self._study = optuna.create_study()
        self._asked: dict[int, int] = {}  # the number that Optuna gave a trial, by ours
        if self.path is not None and self.path.exists() and not fresh:
            self._load(self.path)

    def ask(self) -> int:
        """Choose the values of another trial, record them, and return its number."""
        number = len(self.trials)
        config = dict(self._sampler)
        if config.get("seed") is not None:  # a sampler that was seeded alike would repeat its draws after a resume
            config["seed"] += number
        try:
            self._study.sampler = RoundingSampler(instantiate(config))
            trial = self._study.ask(fixed_distributions=self.space)
        except Exception as error:  # of a sampler of the user's choice
            raise UserError(f"hydra.sweeper.sampler: {' '.join(str(error).split())}") from error
        self._asked[number] = trial.number
        self.trials.append(trial.params)
        self._save()
        return number

    def tell(self, number: int, value: float | None) -> None:
        """Record the metric of a trial, ``None`` if it failed, for the choice of later ones."""
        self.values[number] = value
        if number in self._asked:
            self._study.tell(self._asked[number], value, state=_state(value))
        else:
            with _experimental():
                self._study.add_trial(self._trial(self.trials[number], value))

    def _trial(self, params: dict[str, Any], value: float | None) -> FrozenTrial:
        with _experimental():
            trial: FrozenTrial = optuna.create_trial(
                state=_state(value), value=value, params=params, distributions=self.space
            )
            return trial

    def _load(self, path: Path) -> None:
        try:
            recorded = read_json(path)
            settings, trials = dict(recorded["settings"]), [dict(params) for params in recorded["trials"]]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise _damaged(path, error) from None
        for key in {**self.settings, **settings}:
            before, now = settings.get(key), self.settings.get(key)
            if before != now:
                raise UserError(
                    f"{path.parent} holds another search, with {key}: {before or 'none'} instead of {now or 'none'}: "
                    "use sweep=NAME to keep both, or fresh=true to replace it"
                )
        try:
            for params in trials:
                self._trial(params, None)
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(path, error) from None
        self.trials = trials

    def _save(self) -> None:
        if self.path is not None:
            with atomic_write(self.path) as file:
                file.write((json.dumps({"settings": self.settings, "trials": self.trials}, indent=1) + "\n").encode())


def _state(value: float | None) -> TrialState:
    return TrialState.FAIL if value is None else TrialState.COMPLETE


@contextmanager
def _experimental() -> Iterator[None]:
    """Optuna 2 warns that these functions may change; in Optuna 3 they are what they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged ({' '.join(str(error).split())}): use fresh=true to search again")


class RoundingSampler(BaseSampler):
    """Another sampler, with its numbers rounded to three digits: ``0.00123`` can be read, typed and told apart."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space: dict[str, BaseDistribution] = self.sampler.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        values = self.sampler.sample_relative(study, trial, search_space)
        return {name: _rounded(value, search_space[name]) for name, value in values.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return _rounded(value, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    """A float in three digits, within the bounds of its distribution; anything else as it is."""
    if not isinstance(value, float) or not hasattr(distribution, "low"):
        return value
    low, high = distribution.low, getattr(distribution, "high")  # noqa: B009 - not every distribution has bounds
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
