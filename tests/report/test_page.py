"""The HTML page and the charts."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gptladder.report import write_report
from gptladder.report.aggregate import group_runs
from gptladder.report.charts import _spread_out, plot_curves, plot_ladder, to_png
from gptladder.report.columns import explain_verdict, table_notes
from gptladder.report.curves import mean_curve, published_curve
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.page import render_page
from gptladder.runs.published import tolerances
from helpers.html import Elements
from helpers.results import run

NO_BASELINE = NGramBaseline("No n-gram baseline.")
NASTY = "<script>alert('x')</script> | [bold] & \\input{secret}"


def page(directory: Path) -> str:
    return render_page(group_runs(load_runs(directory)), NO_BASELINE, title="sweep")


def chart_data(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="lines">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    lines: list[dict[str, Any]] = json.loads(found[1], parse_constant=lambda name: pytest.fail(name))
    return lines


def test_texts_from_runs_are_escaped(tmp_path: Path) -> None:
    run(tmp_path / "plain", "bigram")
    nasty: dict[str, Any] = {
        "sample": NASTY,
        "error": NASTY,
        "command": NASTY,
        "versions": {NASTY: NASTY},
        "description": NASTY,
        "notes": NASTY,
        "tags": [NASTY],
        "stopped_by": NASTY,
        "published": None,
    }
    run(tmp_path / "nasty", "bigram", status="failed", **nasty)
    path = run(tmp_path / "nasty", "multihead", model=f"</script>{NASTY}", **nasty)
    (path / ".hydra/config.yaml").write_text("model:\n  name: '</script><script>alert(1)</script>'\n")
    assert "&lt;script&gt;alert" in page(tmp_path / "nasty")
    scripts = [
        [tag for tag, _ in Elements(page(tmp_path / name)).elements if tag == "script"] for name in ("plain", "nasty")
    ]
    assert scripts[0] == scripts[1]


def test_a_drift_is_explained_where_it_stands(tmp_path: Path) -> None:
    point = {"worst_step": 3200, "worst_split": "val", "worst_abs_diff": 0.0246, "tolerance": 0.0011}
    run(tmp_path, "bigram")
    drift = {**{"step": 4999, "train": 2.2, "val": 2.2, "max_abs_diff": 0.03, "verdict": "DRIFT"}, **point}
    run(tmp_path, "multihead", published=drift)
    text, table = page(tmp_path), "\n".join(table_notes(group_runs(load_runs(tmp_path))))
    sentence = "At step 3,200, the val estimate differs from the published one by 0.0246; rounding explains 0.0011."
    assert text.count(sentence) == 2  # below the table, and in the section of the row
    assert f"multihead: {sentence}" in table
    assert "MATCH: no estimate differs" in table


def test_a_shortened_run_says_up_to_which_step_it_was_compared(tmp_path: Path) -> None:
    so_far = {"step": 600, "last_step": 4999, "train": 2.2, "val": 2.2, "max_abs_diff": 0.0}
    run(tmp_path, "multihead", published={**so_far, "verdict": "matches so far"}, status="stopped", step=700,
        stopped_by="a time limit")  # fmt: skip
    sentence = "Stopped at step 700: a time limit. Compared up to step 600 of 4,999, where the run ends."
    assert page(tmp_path).count(sentence) == 2


def test_a_run_that_matches_needs_no_explanation(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    assert [explain_verdict(row) for row in group_runs(load_runs(tmp_path))] == [""]


def test_keys_that_only_one_row_has_are_folded_and_none_is_called_absent(tmp_path: Path) -> None:
    for rung, keys in (("bigram", "{size: 1, old: 7}"), ("multihead", "{size: 2, n_head: 4}")):
        (run(tmp_path, rung) / ".hydra/config.yaml").write_text(f"model: {keys}\n")
    text = page(tmp_path)
    assert "absent" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    folded = re.findall(r"<details><summary[^>]*>(\d+ keys [\w ]+)</summary>\s*<table>(.*?)</table>", text, re.DOTALL)
    assert [(title, re.findall(r"<code>(.*?)</code>", table)) for title, table in folded] == [
        ("1 keys that only this row has", ["model.n_head"]),
        ("1 keys that this row does not have", ["model.old"]),
    ]


def test_the_page_forbids_and_needs_no_network(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    elements = Elements(page(tmp_path)).elements
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in elements)
    addresses = [value for _, attributes in elements for key, value in attributes.items() if key in ("src", "href")]
    assert all((address or "").startswith(("#", "data:")) for address in addresses)


def test_every_link_has_a_target_on_the_page(tmp_path: Path) -> None:
    for rung in ("bigram", "multihead"):
        run(tmp_path, rung)
    elements = Elements(page(tmp_path)).elements
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert len(links) == 2
    assert links <= {f"#{attributes['id']}" for _, attributes in elements if "id" in attributes}


def test_a_traceback_is_folded_below_its_last_line(tmp_path: Path) -> None:
    run(tmp_path, "bigram", status="failed", error="Traceback\n  deep inside\nValueError: hot", published=None)
    text = page(tmp_path)
    summary, folded = re.findall(r"<details><summary>(.*?)</summary><pre>(.*?)</pre>", text, re.DOTALL)[0]
    assert "ValueError: hot" in summary
    assert "deep inside" not in summary
    assert "deep inside" in folded


def test_a_non_finite_point_is_left_out_of_the_curve(tmp_path: Path) -> None:
    losses = [4.0, float("nan"), 3.0, float("inf"), 2.0]
    curve = [{"step": step, "val_estimate": loss} for step, loss in enumerate(losses)]
    run(tmp_path, "bigram", curve=curve, published=None)
    (line,) = chart_data(page(tmp_path))
    assert [point[:2] for point in line["measured"]["val_estimate"]] == [[0, 4.0], [2, 3.0], [4, 2.0]]
    assert line["measured"]["train_estimate"] == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_non_finite_or_huge_loss_breaks_no_file(loss: float, tmp_path: Path) -> None:
    for rung in ("bigram", "multihead"):
        for seed in (1, 2):
            run(tmp_path, rung, seed=seed, val_loss=loss, val_estimate=loss, val_bits_per_char=loss)
    assert [row.status for row in write_report(tmp_path).rows] == ["MATCH", "MATCH"]


def test_the_mean_curve_has_the_steps_that_all_seeds_reached(tmp_path: Path) -> None:
    for seed, losses in ((1, [4.0, 3.0, 2.0]), (2, [4.2, 3.2])):
        curve = [{"step": step, "val_estimate": loss} for step, loss in enumerate(losses)]
        run(tmp_path, "bigram", seed=seed, curve=curve, published=None)
    (row,) = group_runs(load_runs(tmp_path))
    points = mean_curve(row)
    assert [point.step for point in points] == [0, 1]
    assert points[1].mean == pytest.approx(3.1)
    assert points[1].std == pytest.approx(0.1 * 2**0.5)


def test_only_a_run_with_the_published_recipe_has_a_published_curve(tmp_path: Path) -> None:
    run(tmp_path / "own", "bigram")
    run(tmp_path / "other", "bigram", published=None)
    (own,), (other,) = (group_runs(load_runs(tmp_path / name)) for name in ("own", "other"))
    assert published_curve(own)[-1][:2] == (2999, 2.4919)
    assert published_curve(own, "train_estimate")[-1][:2] == (2999, 2.4621)
    assert [point.tolerance for point in published_curve(own)] == [val for _, val in tolerances("bigram").values()]
    assert published_curve(own, "val_loss") == published_curve(other) == []


@pytest.mark.parametrize("heights", [[1.0], [1.0, 1.0, 1.0], [0.0, 0.1, 5.0, 5.1, 5.15], [0.0, 0.9, 1.8, 2.7]])
def test_labels_at_the_edge_never_overlap_and_keep_their_order(heights: list[float]) -> None:
    positions = _spread_out(heights, 1.0)
    assert len(positions) == len(heights)
    assert all(b - a >= 1.0 - 1e-9 for a, b in pairwise(positions))
    assert sum(positions) == pytest.approx(sum(heights))


@pytest.mark.parametrize("n", [1, 60])
def test_one_row_and_many_rows_can_be_plotted(n: int, tmp_path: Path) -> None:
    for seed in range(n):
        path = run(tmp_path, "bigram", seed=seed, published=None)
        (path / ".hydra/overrides.yaml").write_text(f"- model=bigram\n- optimizer.lr=0.{seed}1\n")
    rows = group_runs(load_runs(tmp_path))
    assert len(rows) == n
    for figure in (plot_curves(rows), plot_ladder(rows, NO_BASELINE)):
        assert to_png(figure).startswith(b"\x89PNG")


def test_a_sweep_of_pending_jobs_has_a_report(tmp_path: Path) -> None:
    for job, rung in enumerate(("bigram", "gpt")):
        path = tmp_path / rung
        path.mkdir()
        pending = {"status": "pending", "error": None, "model": rung, "seed": 1337, "job": job}
        (path / "result.json").write_text(json.dumps(pending))
    assert [row.status for row in write_report(tmp_path).rows] == ["PENDING", "PENDING"]
    assert page(tmp_path).count("PENDING") >= 2
