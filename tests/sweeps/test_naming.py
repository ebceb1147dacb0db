"""Names of jobs: readable, unique, and the same on every launch."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from gptladder.runs.configs import flatten
from gptladder.runs.naming import SHORT_GROUPS, job_label, job_name, quote_override, varying_keys
from helpers.configs import RUNGS, composed


def test_a_job_is_named_after_its_overrides() -> None:
    overrides = ["sweep=mine", "seed=2", "optimizer.lr=0.01", "model=layernorm"]
    assert job_name("layernorm", overrides) == "layernorm-lr0.01-seed2"


def test_the_order_of_the_overrides_does_not_change_a_name() -> None:
    assert job_name("gpt", ["seed=1", "data.split=0.5"]) == job_name("gpt", ["data.split=0.5", "seed=1"])


@pytest.mark.parametrize("rung", RUNGS)
def test_short_keys_are_unambiguous(rung: str) -> None:
    config = composed(f"model={rung}")
    # `data.block_size` is always that of the model.
    names = [key for group in SHORT_GROUPS for key in config[group] if key[0] != "_" and (group, key) != _TWIN]
    assert len(set(names)) == len(names)


_TWIN = ("data", "block_size")


settings = st.dictionaries(
    st.sampled_from(["seed", "data.path", "optimizer.lr", "trainer.max_steps", "model.n_head"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    max_size=4,
)


@given(settings, settings)
def test_two_jobs_never_share_a_name(one: dict[str, str], other: dict[str, str]) -> None:
    names = [job_name("gpt", [f"{key}={value}" for key, value in job.items()]) for job in (one, other)]
    assert (names[0] == names[1]) == (one == other)


@given(settings)
def test_a_name_is_valid_in_any_file_system(job: dict[str, str]) -> None:
    name = job_name("gpt", [f"{key}={value}" for key, value in job.items()])
    assert Path(name).name == name
    assert len(name.encode()) <= 255


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$\r\n\0"), min_size=1))
def test_a_quoted_value_reaches_the_config_unchanged(value: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={quote_override(value)}"])
    assert override.value() == value


def test_flatten_returns_dotted_keys() -> None:
    assert dict(flatten({"a": {"b": {"c": 1}}, "d": [2]})) == {"a.b.c": 1, "d": [2]}


def test_launch_options_do_not_change_a_name() -> None:
    for overrides in (["seed=1"], ["data.path=/a b/c.txt", "seed=1"]):
        launched = [*overrides, "fresh=true", "launcher=joblib", "sweep=other", "plan=true"]
        assert job_name("bigram", launched) == job_name("bigram", overrides)


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ([], "gpt"),
        (["seed=2", "optimizer.lr=0.01", "model=gpt", "sweep=s"], "gpt-lr0.01-seed2"),
        (["tokenizer.vocab_size=512"], "gpt-vocab_size512"),
        (["data.path=/a/long/way/to/text.txt"], "gpt-pathtext.txt"),
        (["data.path='/a b/text.txt'"], "gpt-pathtext.txt"),
        (["data.path=[/a/one.txt,/b/two.txt]"], "gpt-path[one.txt,two.txt]"),
        (["ablation=relu"], "gpt-relu"),
    ],
)
def test_a_label_is_for_people(overrides: list[str], label: str) -> None:
    assert job_label("gpt", overrides) == label


def test_the_keys_that_vary_are_those_that_not_all_jobs_give_alike() -> None:
    jobs = [["a=1", "b=2", "seed=1"], ["a=1", "b=3", "seed=1"], ["a=1", "seed=1", "+c=1"]]
    assert varying_keys(jobs) == ["b", "c"]
    assert varying_keys(jobs[:1]) == []
