"""Claims about rows: which runs make one, what they are compared with, and what their figures mean."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gptladder.report.collect import collect
from gptladder.report.rows import LADDER, Row, arranged
from gptladder.runs.configs import sorted_by_inheritance
from helpers.configs import CONF, composed


def record(directory: Path, name: str, *overrides: str, rung: str = "layernorm", **result: Any) -> Path:
    """A run directory without a config."""
    path = directory / name
    (path / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([f"model={rung}", *overrides]), path / ".hydra/overrides.yaml")
    seeds = [int(override.removeprefix("seed=")) for override in overrides if override.startswith("seed=")]
    seed = seeds[0] if seeds else 1337
    told = {"status": "finished", "model": rung, "seed": seed, "config_hash": name, "val_loss": 2.0, **result}
    (path / "result.json").write_text(json.dumps(told))
    return path


def configure(path: Path, *overrides: str) -> None:
    """Leave the config that the overrides compose."""
    OmegaConf.save(composed(*overrides), path / ".hydra/config.yaml")


def rows(directory: Path) -> list[Row]:
    return arranged(collect(directory))


def test_the_ladder_is_the_one_that_the_rungs_inherit() -> None:
    assert [path.stem for path in sorted_by_inheritance(CONF / "model")] == list(LADDER)


@pytest.mark.parametrize(
    ("below", "above", "said"),
    [
        ("bigram", "embedding", "Bigram → GPT, n_embd 32"),
        ("singlehead", "multihead", "n_head 1 → 4, head_size 16 → null"),
        ("residual", "layernorm", "norm_position none → pre"),
        ("bigram", "bigram", ""),
    ],
)
def test_a_row_says_what_changed_in_few_words(below: str, above: str, said: str, tmp_path: Path) -> None:
    for job, (rung, *same) in enumerate([(below,), (above, "optimizer.weight_decay=0.01")]):
        configure(record(tmp_path, str(job), *same, rung=rung, job=job), f"model={rung}", *same)
    assert rows(tmp_path)[1].changed == said


def test_overrides_other_than_the_seed_make_a_row(tmp_path: Path) -> None:
    for seed in (1, 2):
        for rate in ("0.01", "0.001"):
            record(tmp_path, f"{seed}-{rate}", f"seed={seed}", f"optimizer.lr={rate}")
    assert [(row.label, len(row.readings)) for row in rows(tmp_path)] == [
        ("layernorm-lr0.001", 2),
        ("layernorm-lr0.01", 2),
    ]


def test_the_order_of_the_sweep_goes_before_that_of_the_ladder(tmp_path: Path) -> None:
    record(tmp_path, "a", rung="gpt", job=0)
    record(tmp_path, "b", rung="bigram", job=1)
    record(tmp_path, "c", rung="multihead")
    record(tmp_path, "d", rung="singlehead")
    assert [row.label for row in rows(tmp_path)] == ["gpt", "bigram", "singlehead", "multihead"]


def test_variants_of_a_rung_are_compared_with_its_first_row(tmp_path: Path) -> None:
    for job, key in enumerate(("seed=1", "model.residual=false", "model.scale=false")):
        configure(record(tmp_path, str(job), key, job=job), "model=layernorm", key)
    assert [row.changed for row in rows(tmp_path)] == ["", "residual true → false", "scale true → false"]


def paired(directory: Path, below: dict[int, float], above: dict[int, float]) -> Row:
    for rung, losses in (("residual", below), ("layernorm", above)):
        for seed, loss in losses.items():
            record(directory, f"{rung}{seed}", f"seed={seed}", rung=rung, val_loss=loss)
    return rows(directory)[1]


def test_a_difference_is_over_the_seeds_that_both_rows_have(tmp_path: Path) -> None:
    difference = paired(tmp_path, {1: 2.0, 2: 2.2, 3: 9.0}, {1: 1.9, 2: 2.0, 4: 0.0}).difference
    assert difference is not None
    assert difference.mean == pytest.approx(-0.15)
    assert difference.error == pytest.approx(0.05)  # std 0.0707 over sqrt(2)
    assert difference.within_noise is False


def test_one_seed_says_nothing_about_noise(tmp_path: Path) -> None:
    difference = paired(tmp_path, {1: 2.0}, {1: 2.0}).difference
    assert difference is not None
    assert difference.error is difference.within_noise is None


def test_rows_without_a_common_seed_have_no_difference(tmp_path: Path) -> None:
    assert paired(tmp_path, {1: 2.0}, {2: 2.0}).difference is None


def test_figures_are_those_of_finished_runs_and_the_status_tells_of_the_others(tmp_path: Path) -> None:
    record(
        tmp_path, "one", "seed=1", val_loss=2.0, published={"train": 2, "val": 2, "max_abs_diff": 0, "verdict": "MATCH"}
    )
    record(tmp_path, "two", "seed=2", val_loss=9.0, status="interrupted")
    record(tmp_path, "three", "seed=3", status="failed")
    (row,) = rows(tmp_path)
    spread = row.spread("val_loss")
    assert spread is not None
    assert (spread.mean, spread.std, spread.n) == (2.0, None, 1)
    assert row.status == "MATCH, 1 of 3 FAILED, 1 of 3 INTERRUPTED"


def test_one_seed_that_drifts_is_not_outvoted(tmp_path: Path) -> None:
    for seed, verdict in ((1, "MATCH"), (2, "DRIFT"), (3, "MATCH")):
        compared = {"train": 2, "val": 2, "max_abs_diff": seed, "verdict": verdict}
        record(tmp_path, str(seed), f"seed={seed}", published=compared)
    (row,) = rows(tmp_path)
    assert row.status == "DRIFT"
    assert row.largest_difference == 3


def test_losses_of_different_tokenizers_are_not_subtracted(tmp_path: Path) -> None:
    for number, tokenizer in enumerate(("char", "char", "bpe")):
        override = f"optimizer.lr={number + 1}e-3"
        path = record(tmp_path, f"run{number}", override, f"tokenizer={tokenizer}", job=number, val_loss=2.0 + number)
        configure(path, "model=layernorm", override, f"tokenizer={tokenizer}")
    first, second, third = rows(tmp_path)
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.mean == 1.0
    assert third.difference is None
