"""Rows: which runs share one, what it is compared with, and its values."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gptladder.report.aggregate import Row, group_runs, shared_settings
from gptladder.report.charts import plot_curves, plot_ladder
from gptladder.report.curves import scales_and_unit
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.statistics import holm
from gptladder.report.tables import terminal_table
from gptladder.runs.configs import CONF, first_comment, sorted_by_inheritance
from helpers.configs import RUNGS, composed


def record(directory: Path, name: str, *overrides: str, rung: str = "layernorm", **result: Any) -> Path:
    """A run directory without a config."""
    path = directory / name
    (path / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create([f"model={rung}", *overrides]), path / ".hydra/overrides.yaml")
    seeds = [int(override.removeprefix("seed=")) for override in overrides if override.startswith("seed=")]
    seed = seeds[0] if seeds else 1337
    values = {"status": "finished", "model": rung, "seed": seed, "config_hash": name, "val_loss": 2.0, **result}
    (path / "result.json").write_text(json.dumps(values))
    return path


def record_config(path: Path, *overrides: str) -> None:
    """Add the config that the overrides compose."""
    OmegaConf.save(composed(*overrides), path / ".hydra/config.yaml")


def rows(directory: Path) -> list[Row]:
    return group_runs(load_runs(directory))


def test_rungs_are_in_the_order_of_inheritance(tmp_path: Path) -> None:
    for rung in RUNGS:
        record(tmp_path, rung, rung=rung)
    assert [row.label for row in rows(tmp_path)] == [path.stem for path in sorted_by_inheritance(CONF / "model")]


def test_a_row_is_described_by_the_recorded_sentence(tmp_path: Path) -> None:
    record(tmp_path, "run", description="A new idea.")
    assert rows(tmp_path)[0].what_changed == "A new idea."


@pytest.mark.parametrize("rung", RUNGS)
def test_without_a_recorded_sentence_the_config_of_the_rung_describes_it(rung: str, tmp_path: Path) -> None:
    record(tmp_path, "run", rung=rung)
    assert rows(tmp_path)[0].what_changed == first_comment(CONF / "model" / f"{rung}.yaml") != ""


@pytest.mark.parametrize("ablation", ["relu", "plain_relu"])
def test_an_ablation_is_described_by_its_own_config_also_under_its_old_name(ablation: str, tmp_path: Path) -> None:
    record(tmp_path, "a", job=0)
    record(tmp_path, "b", f"ablation={ablation}", job=1)
    assert rows(tmp_path)[1].what_changed == first_comment(CONF / "ablation" / "relu.yaml") != ""


def test_an_unknown_rung_is_described_by_the_keys_that_it_changes(tmp_path: Path) -> None:
    record_config(record(tmp_path, "a", job=0), "model=layernorm")
    record_config(record(tmp_path, "b", rung="mine", job=1), "model=layernorm", "model.n_head=2")
    assert rows(tmp_path)[1].what_changed == "n_head 4 → 2"


@pytest.mark.parametrize(
    ("below", "above", "summary"),
    [
        ("bigram", "embedding", "Bigram → GPT, n_embd 32"),
        ("singlehead", "multihead", "n_head 1 → 4, head_size 16 → null"),
        ("residual", "layernorm", "norm_position none → pre"),
        ("bigram", "bigram", ""),
    ],
)
def test_the_changed_keys_are_summarized_in_one_line(below: str, above: str, summary: str, tmp_path: Path) -> None:
    for job, (rung, *same) in enumerate([(below,), (above, "optimizer.weight_decay=0.01")]):
        record_config(record(tmp_path, str(job), *same, rung=rung, job=job), f"model={rung}", *same)
    assert rows(tmp_path)[1].changed_keys == summary


def test_runs_with_other_overrides_than_the_seed_are_another_row(tmp_path: Path) -> None:
    for seed in (1, 2):
        for rate in ("0.01", "0.001"):
            record(tmp_path, f"{seed}-{rate}", f"seed={seed}", f"optimizer.lr={rate}")
    assert [(row.label, len(row.runs)) for row in rows(tmp_path)] == [
        ("layernorm-lr0.001", 2),
        ("layernorm-lr0.01", 2),
    ]


def test_rows_are_in_the_order_of_the_sweep_then_of_the_ladder(tmp_path: Path) -> None:
    record(tmp_path, "a", rung="gpt", job=0)
    record(tmp_path, "b", rung="bigram", job=1)
    record(tmp_path, "c", rung="multihead")
    record(tmp_path, "d", rung="singlehead")
    assert [row.label for row in rows(tmp_path)] == ["gpt", "bigram", "singlehead", "multihead"]


def test_variants_of_a_rung_are_compared_with_its_first_row_and_show_their_keys(tmp_path: Path) -> None:
    for job, key in enumerate(("seed=1", "model.residual=false", "model.scale=false")):
        record_config(record(tmp_path, str(job), key, job=job), "model=layernorm", key)
    sentence = first_comment(CONF / "model" / "layernorm.yaml")
    changed = [row.what_changed for row in rows(tmp_path)]
    assert changed == [sentence, "residual true → false", "scale true → false"]


def test_another_rung_with_another_override_shows_its_sentence_and_the_override(tmp_path: Path) -> None:
    record(tmp_path, "a", "optimizer.lr=0.1", rung="residual", job=0)
    record(tmp_path, "b", "optimizer.lr=0.2", description="LayerNorm.", job=1)
    assert rows(tmp_path)[1].what_changed == "LayerNorm. (optimizer.lr=0.2)"


def test_labels_leave_out_the_settings_that_all_runs_share(tmp_path: Path) -> None:
    shared = ("trainer.max_steps=40", "~callbacks.samples")
    record(tmp_path, "a", *shared, rung="residual", job=0)
    record(tmp_path, "b", *shared, "optimizer.lr=0.1", job=1)
    name = "layernorm-callbacks.samples-lr0.1-max_steps40-seed3"
    (tmp_path / name).mkdir()
    pending = {"status": "pending", "model": "layernorm", "seed": 3, "job": 1}
    (tmp_path / name / "result.json").write_text(json.dumps(pending))
    first, second = rows(tmp_path)
    assert (first.label, second.label) == ("residual", "layernorm-lr0.1")
    assert (second.name, len(second.runs)) == ("layernorm-callbacks.samples-lr0.1-max_steps40", 2)
    assert shared_settings([first, second]) == list(shared)


def test_labels_name_what_varies_also_where_names_are_long(tmp_path: Path) -> None:
    shared = ("data=text", "data.path=/a/very/long/path/to/a/text.txt", "tokenizer=bpe", "trainer.max_steps=800")
    for size in (256, 512):
        for lr in ("0.001", "0.003"):
            words = (*shared, f"tokenizer.vocab_size={size}", f"optimizer.lr={lr}")
            record(tmp_path, f"{size}-{lr}", *words, job=size)
    assert {row.label for row in rows(tmp_path)} == {
        f"layernorm-lr{lr}-vocab_size{size}" for size in (256, 512) for lr in ("0.001", "0.003")
    }


def test_texts_that_vary_are_named_by_their_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        record(tmp_path, name, "data=text", f"data.path=/somewhere/{name}.txt")
    assert [row.label for row in rows(tmp_path)] == ["layernorm-pathone.txt", "layernorm-pathtwo.txt"]


def test_the_label_of_an_only_row_has_all_settings(tmp_path: Path) -> None:
    record(tmp_path, "a", "trainer.max_steps=40")
    (row,) = rows(tmp_path)
    assert row.label == "layernorm-max_steps40"
    assert shared_settings([row]) == []


def compare(directory: Path, losses: dict[int, float], next_losses: dict[int, float]) -> Row:
    """The row of `layernorm`, compared with `residual`; losses by seed."""
    for rung, by_seed in (("residual", losses), ("layernorm", next_losses)):
        for seed, loss in by_seed.items():
            record(directory, f"{rung}{seed}", f"seed={seed}", rung=rung, val_loss=loss)
    return rows(directory)[1]


def test_a_difference_is_over_the_seeds_of_both_rows(tmp_path: Path) -> None:
    difference = compare(tmp_path, {1: 2.0, 2: 2.2, 3: 9.0}, {1: 1.9, 2: 2.0, 4: 0.0}).difference
    assert difference is not None
    assert difference.mean == pytest.approx(-0.15)
    assert difference.error == pytest.approx(0.05)  # std 0.0707 over sqrt(2)
    assert difference.within_noise is True  # 12.7 standard errors with two seeds


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    difference = compare(tmp_path, {1: 2.0}, {1: 2.0}).difference
    assert difference is not None
    assert difference.error is difference.half_width is None
    assert difference.p is difference.p_corrected is difference.within_noise is None


def test_rows_without_a_common_seed_have_no_difference(tmp_path: Path) -> None:
    assert compare(tmp_path, {1: 2.0}, {2: 2.0}).difference is None


def test_values_are_those_of_finished_runs_and_the_status_counts_the_others(tmp_path: Path) -> None:
    record(
        tmp_path, "one", "seed=1", val_loss=2.0, published={"train": 2, "val": 2, "max_abs_diff": 0, "verdict": "MATCH"}
    )
    record(tmp_path, "two", "seed=2", val_loss=9.0, status="interrupted")
    record(tmp_path, "three", "seed=3", status="failed")
    (row,) = rows(tmp_path)
    loss = row.mean("val_loss")
    assert loss is not None
    assert (loss.mean, loss.std, loss.n) == (2.0, None, 1)
    assert row.status == "MATCH, 1 of 3 FAILED, 1 of 3 INTERRUPTED"


def test_one_seed_with_drift_makes_the_row_drift(tmp_path: Path) -> None:
    for seed, verdict in ((1, "MATCH"), (2, "DRIFT"), (3, "MATCH")):
        compared = {"train": 2, "val": 2, "max_abs_diff": seed, "verdict": verdict}
        record(tmp_path, str(seed), f"seed={seed}", published=compared)
    (row,) = rows(tmp_path)
    assert row.status == "DRIFT"
    assert row.worst_point is not None
    assert row.worst_point["max_abs_diff"] == 3


def test_losses_of_different_tokenizers_are_not_subtracted(tmp_path: Path) -> None:
    for number, tokenizer in enumerate(("char", "char", "bpe")):
        override = f"optimizer.lr={number + 1}e-3"
        path = record(tmp_path, f"run{number}", override, f"tokenizer={tokenizer}", job=number, val_loss=2.0 + number)
        record_config(path, "model=layernorm", override, f"tokenizer={tokenizer}")
    first, second, third = rows(tmp_path)
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.mean == 1.0
    assert third.difference is None


@pytest.mark.parametrize("second", ["char", "bpe"])
def test_where_tokenizers_differ_charts_and_terminal_show_bits_per_character(second: str, tmp_path: Path) -> None:
    for number, tokenizer in enumerate(("char", second)):
        losses = {"val_loss": 2.0 + number, "val_estimate": 2.5 + number, "val_bits_per_char": 4.0}
        curve = [{"step": 0, "train_estimate": 4.0, **{key: losses[key] for key in ("val_estimate", "val_loss")}}]
        override = f"optimizer.lr={number + 1}e-3"
        path = record(tmp_path, str(number), override, f"tokenizer={tokenizer}", job=number, curve=curve, **losses)
        record_config(path, "model=layernorm", override, f"tokenizer={tokenizer}")
    table = rows(tmp_path)
    scales, unit = scales_and_unit(table)
    differ = second == "bpe"
    assert unit == ("bits per character" if differ else "nats per token")
    assert scales == pytest.approx([2.0, 4 / 3] if differ else [1.0, 1.0])
    for figure in (plot_curves(table), plot_ladder(table, NGramBaseline("no baseline"))):
        assert figure.axes[0].get_title(loc="left").endswith(unit)
    narrow = terminal_table(table, NGramBaseline("no baseline"), 80)
    assert ("val estimate" in [column.header for column in narrow.columns]) is not differ
    assert ("bits/char" in [column.header for column in narrow.columns]) is differ


def test_p_values_are_corrected_for_the_number_of_rows(tmp_path: Path) -> None:
    for job, rung in enumerate(("multihead", "residual", "layernorm")):
        for seed in (1, 2, 3):
            loss = 2.0 - 0.1 * job + 0.01 * seed * job
            record(tmp_path, f"{rung}{seed}", f"seed={seed}", rung=rung, val_loss=loss, job=job)
    found = [row.difference for row in rows(tmp_path)]
    assert found[0] is None
    p_values = [difference.p for difference in found[1:] if difference]
    assert [difference.p_corrected for difference in found[1:] if difference] == holm([p for p in p_values if p])
