"""A search records its trials, resumes, and chooses readable numbers."""

from pathlib import Path
from typing import Any

import pytest

from gptladder.system.errors import UserError
from helpers.configs import CONF

optuna = pytest.importorskip("optuna", reason="needs its extra: pip install -e '.[search]'")
study_module = pytest.importorskip("hydra_plugins.gptladder_sweeper._study")
SearchSweeper = pytest.importorskip("hydra_plugins.gptladder_sweeper.search").SearchSweeper

TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 1}
SPACE = {
    "optimizer.lr": optuna.distributions.LogUniformDistribution(3e-4, 3e-2),
    "model.n_layer": optuna.distributions.IntUniformDistribution(1, 5),
    "model.n_embd": optuna.distributions.CategoricalDistribution((32, 48)),
}


def study(directory: Path, **options: Any) -> Any:
    return study_module.RecordedStudy(directory, SPACE, TPE, **{"settings": {"metric": "val_loss"}, **options})


def loss(params: dict[str, Any]) -> float:
    return float(abs(params["optimizer.lr"] - 0.01) + params["model.n_layer"] / 1000)


def run(search: Any, n: int) -> None:
    while len(search.trials) < n:
        number = search.ask()
        search.tell(number, loss(search.trials[number]))


def test_the_numbers_of_a_search_have_three_digits(tmp_path: Path) -> None:
    search = study(tmp_path)
    run(search, 20)
    rates = [params["optimizer.lr"] for params in search.trials]
    assert rates == [float(f"{rate:.3g}") for rate in rates]
    assert all(3e-4 <= rate <= 3e-2 for rate in rates)
    assert len(set(rates)) > 10


def test_a_resumed_search_makes_the_choices_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole = study(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    run(whole, 25)
    (tmp_path / "stopped").mkdir()
    for n in (7, 18, 25):
        stopped = study(tmp_path / "stopped")
        for number, params in enumerate(stopped.trials):
            stopped.tell(number, loss(params))
        run(stopped, n)
    assert stopped.trials == whole.trials


def test_a_search_with_other_settings_is_refused_unless_it_starts_afresh(tmp_path: Path) -> None:
    run(study(tmp_path), 2)
    with pytest.raises(UserError, match="holds another search, with metric: val_loss instead of val_bits_per_char"):
        study(tmp_path, settings={"metric": "val_bits_per_char"})
    assert study(tmp_path, settings={"metric": "val_bits_per_char"}, fresh=True).trials == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"settings": {"metric": "val_loss"}, "trials": [{"optimizer.lr": 5}]}', "\0"]
)
def test_a_damaged_record_is_a_user_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(UserError, match=r"search\.json is damaged .*: use fresh=true"):
        study(tmp_path)


def test_a_sampler_that_optuna_has_not_is_a_user_error(tmp_path: Path) -> None:
    search = study_module.RecordedStudy(tmp_path, SPACE, {"_target_": "optuna.samplers.Nonsense"})
    with pytest.raises(UserError, match=r"hydra\.sweeper\.sampler: .*Nonsense"):
        search.ask()


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_trials", 0), ("n_trials", "many"), ("n_jobs", 0), ("n_jobs", 1.5), ("metric", "accuracy")],
)
def test_an_invalid_setting_is_a_user_error(key: str, value: Any) -> None:
    settings: dict[str, Any] = {"n_trials": 1, "n_jobs": None, "metric": "val_loss", "sampler": TPE, "params": None}
    with pytest.raises(UserError, match=rf"hydra\.sweeper\.{key}={value} must be"):
        SearchSweeper(**{**settings, key: value})


def test_a_search_resumes_in_one_directory() -> None:
    """A date in its name would make each launch another search."""
    assert "now:" not in (CONF / "experiment" / "search.yaml").read_text()
