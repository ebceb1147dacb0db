"""Claims about the page and the pictures."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gptladder.report import write_report
from gptladder.report.charts import _spaced, curves, ladder, png
from gptladder.report.collect import collect
from gptladder.report.curves import measured_curve, published_curve
from gptladder.report.page import html
from gptladder.report.rows import arranged
from helpers.html import Elements
from helpers.results import run

NASTY = "<script>alert('x')</script> | [bold] & \\input{secret}"


def page(directory: Path) -> str:
    return html(arranged(collect(directory)), title="sweep")


def data(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="lines">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    lines: list[dict[str, Any]] = json.loads(found[1], parse_constant=lambda name: pytest.fail(name))
    return lines


def test_nothing_that_a_run_says_becomes_markup(tmp_path: Path) -> None:
    run(tmp_path / "plain", "bigram")
    nasty = {"sample": NASTY, "error": NASTY, "command": NASTY, "versions": {NASTY: NASTY}, "published": None}
    run(tmp_path / "nasty", "bigram", status="failed", **nasty)
    path = run(tmp_path / "nasty", "multihead", model=f"</script>{NASTY}", **nasty)
    (path / ".hydra/config.yaml").write_text("model:\n  name: '</script><script>alert(1)</script>'\n")
    assert "&lt;script&gt;alert" in page(tmp_path / "nasty")
    scripts = [
        [tag for tag, _ in Elements(page(tmp_path / name)).seen if tag == "script"] for name in ("plain", "nasty")
    ]
    assert scripts[0] == scripts[1]


def test_a_browser_may_fetch_nothing(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    elements = Elements(page(tmp_path)).seen
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in elements)
    addresses = [value for _, attributes in elements for key, value in attributes.items() if key in ("src", "href")]
    assert all((address or "").startswith(("#", "data:")) for address in addresses)


def test_every_link_in_the_page_leads_somewhere(tmp_path: Path) -> None:
    for rung in ("bigram", "multihead"):
        run(tmp_path, rung)
    elements = Elements(page(tmp_path)).seen
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert len(links) == 2
    assert links <= {f"#{attributes['id']}" for _, attributes in elements if "id" in attributes}


def test_a_traceback_is_folded_under_its_last_line(tmp_path: Path) -> None:
    run(tmp_path, "bigram", status="failed", error="Traceback\n  deep inside\nValueError: hot", published=None)
    text = page(tmp_path)
    summary, folded = re.findall(r"<details><summary>(.*?)</summary><pre>(.*?)</pre>", text, re.DOTALL)[0]
    assert "ValueError: hot" in summary
    assert "deep inside" not in summary
    assert "deep inside" in folded


def test_a_point_that_is_no_number_is_a_gap(tmp_path: Path) -> None:
    losses = [4.0, float("nan"), 3.0, float("inf"), 2.0]
    curve = [{"step": step, "val_estimate": loss} for step, loss in enumerate(losses)]
    run(tmp_path, "bigram", curve=curve, published=None)
    (line,) = data(page(tmp_path))
    assert [point[:2] for point in line["measured"]["val_estimate"]] == [[0, 4.0], [2, 3.0], [4, 2.0]]
    assert line["measured"]["train_estimate"] == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_loss_that_is_no_number_breaks_no_file(loss: float, tmp_path: Path) -> None:
    for rung in ("bigram", "multihead"):
        for seed in (1, 2):
            run(tmp_path, rung, seed=seed, val_loss=loss, val_estimate=loss, val_bits_per_char=loss)
    assert [row.status for row in write_report(tmp_path)] == ["MATCH", "MATCH"]


def test_a_band_spans_the_steps_that_all_seeds_reached(tmp_path: Path) -> None:
    for seed, losses in ((1, [4.0, 3.0, 2.0]), (2, [4.2, 3.2])):
        curve = [{"step": step, "val_estimate": loss} for step, loss in enumerate(losses)]
        run(tmp_path, "bigram", seed=seed, curve=curve, published=None)
    (row,) = arranged(collect(tmp_path))
    points = measured_curve(row)
    assert [point.step for point in points] == [0, 1]
    assert points[1].mean == pytest.approx(3.1)
    assert points[1].std == pytest.approx(0.1 * 2**0.5)


def test_the_published_curve_stands_only_beside_its_own_recipe(tmp_path: Path) -> None:
    run(tmp_path / "own", "bigram")
    run(tmp_path / "other", "bigram", published=None)
    (own,), (other,) = (arranged(collect(tmp_path / name)) for name in ("own", "other"))
    assert published_curve(own)[-1] == (2999, 2.4919)
    assert published_curve(own, "train_estimate")[-1] == (2999, 2.4621)
    assert published_curve(own, "val_loss") == published_curve(other) == []


@pytest.mark.parametrize("heights", [[1.0], [1.0, 1.0, 1.0], [0.0, 0.1, 5.0, 5.1, 5.15], [0.0, 0.9, 1.8, 2.7]])
def test_names_at_the_edge_never_touch_and_keep_their_order(heights: list[float]) -> None:
    places = _spaced(heights, 1.0)
    assert len(places) == len(heights)
    assert all(b - a >= 1.0 - 1e-9 for a, b in pairwise(places))
    assert sum(places) == pytest.approx(sum(heights))


@pytest.mark.parametrize("n", [1, 60])
def test_one_row_and_a_crowd_can_be_drawn(n: int, tmp_path: Path) -> None:
    for seed in range(n):
        path = run(tmp_path, "bigram", seed=seed, published=None)
        (path / ".hydra/overrides.yaml").write_text(f"- model=bigram\n- optimizer.lr=0.{seed}1\n")
    rows = arranged(collect(tmp_path))
    assert len(rows) == n
    for draw in (curves, ladder):
        assert png(draw(rows)).startswith(b"\x89PNG")


def test_a_sweep_of_which_nothing_has_begun_has_a_report(tmp_path: Path) -> None:
    for job, rung in enumerate(("bigram", "gpt")):
        path = tmp_path / rung
        path.mkdir()
        waiting = {"status": "pending", "error": None, "model": rung, "seed": 1337, "job": job}
        (path / "result.json").write_text(json.dumps(waiting))
    assert [row.status for row in write_report(tmp_path)] == ["PENDING", "PENDING"]
    assert page(tmp_path).count("PENDING") >= 2
