"""The files of config groups, and what is read from them."""

import pytest

from gptladder.runs.configs import CONF, describe_run, first_comment, sorted_by_inheritance


def test_the_rungs_come_in_the_order_of_the_ladder() -> None:
    rungs = [path.stem for path in sorted_by_inheritance(CONF / "model")]
    assert rungs[:3] == ["bigram", "embedding", "average"]
    assert rungs.index("layernorm") < rungs.index("dropout") < rungs.index("gpt")


@pytest.mark.parametrize(
    ("rung", "choices", "file"),
    [
        ("multihead", {"model": "multihead", "experiment": "ladder", "ablation": "none"}, "model/multihead"),
        ("layernorm", {"model": "layernorm", "ablation": "no_residual"}, "ablation/no_residual"),
        ("speedrun", {"model": "layernorm", "experiment": "speedrun", "ablation": "none"}, "experiment/speedrun"),
        ("blocks", {}, "model/blocks"),
    ],
)
def test_a_run_is_described_by_the_file_that_names_it(rung: str, choices: dict[str, str], file: str) -> None:
    assert describe_run(rung, choices) == first_comment(CONF / f"{file}.yaml")


def test_a_run_without_a_file_has_no_description() -> None:
    assert describe_run("mine", {}) is None
