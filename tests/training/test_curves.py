"""The curve of a run equals the published one, and that of the lecture's plain loop."""

from pathlib import Path
from typing import Any

import lecture
import pytest

from gptladder.data.text import tiny_shakespeare
from gptladder.runs.published import SO_FAR, compare, published, tolerances
from helpers.configs import ROOT, command, trained

QUIET = ["callbacks=default", "~callbacks.samples", "~callbacks.attention_maps", "logger=none"]
SHALLOW = ["bigram", "embedding"]
DEEP = [rung for rung in published() if rung not in (*SHALLOW, "gpt")]
LADDER = [*SHALLOW, *DEEP]


def assert_same_curve(result: dict[str, Any], curve: list[tuple[int, float, float]]) -> None:
    points = [(point["step"], point["train_estimate"], point["val_estimate"]) for point in result["curve"]]
    assert [point[0] for point in points] == [point[0] for point in curve]
    for point, expected in zip(points, curve, strict=True):
        assert point == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("rung", SHALLOW)
def test_a_shallow_rung_reproduces_every_published_point(rung: str, tmp_path: Path) -> None:
    result = trained(tmp_path, f"model={rung}", *QUIET)
    assert result["published"]["verdict"] == "MATCH"
    assert result["published"]["max_abs_diff"] == 0.0
    assert [point["step"] for point in result["curve"]] == [point[0] for point in published()[rung]["curve"]]


@pytest.mark.parametrize("rung", DEEP)
def test_a_deep_rung_reproduces_the_first_600_steps(rung: str, tmp_path: Path) -> None:
    result = trained(tmp_path, f"model={rung}", "trainer.max_steps=600", *QUIET)
    assert result["published"]["step"] == 600
    assert result["published"]["last_step"] == 4999
    assert result["published"]["verdict"] == SO_FAR
    allowed = max(max(pair) for step, pair in tolerances(rung).items() if step <= 600)
    assert result["published"]["max_abs_diff"] <= allowed + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("rung", LADDER)
def test_the_command_reproduces_the_complete_curve_of_every_rung(rung: str, tmp_path: Path) -> None:
    done = command("train.py", f"model={rung}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MATCH" in done.stdout


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        (lecture.Settings("multihead", seed=7), ["seed=7"]),
        (lecture.Settings("layernorm", block_size=16, interval=20), ["model.block_size=16"]),
        pytest.param(
            lecture.Settings("residual", batch_size=12, interval=20), ["data.batch_size=12"], marks=pytest.mark.slow
        ),
        (lecture.Settings("multihead", n_embd=48, interval=20), ["model.n_embd=48"]),
        pytest.param(
            lecture.Settings("blocks", seed=2, block_size=5, batch_size=7),
            ["seed=2", "model.block_size=5", "data.batch_size=7"],
            marks=pytest.mark.slow,
        ),
        (lecture.Settings("bigram", seed=3), ["seed=3"]),
        pytest.param(
            lecture.Settings("embedding", n_embd=10, interval=15), ["model.n_embd=10"], marks=pytest.mark.slow
        ),
        pytest.param(
            lecture.Settings("singlehead", block_size=20, interval=15), ["model.block_size=20"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value.rung,
)
def test_with_other_settings_a_run_equals_the_lectures_loop(
    settings: lecture.Settings, overrides: list[str], tmp_path: Path
) -> None:
    steps = 30
    result = trained(
        tmp_path,
        f"model={settings.rung}",
        *overrides,
        f"trainer.max_steps={steps}",
        f"trainer.val_check_interval={settings.interval}",
        *QUIET,
    )
    assert_same_curve(result, lecture.train(settings, tiny_shakespeare(), steps))


def test_with_another_text_a_run_equals_the_lectures_loop(tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text() * 3
    (tmp_path / "text.txt").write_text(text)
    result = trained(
        tmp_path / "run",
        "model=feedforward",
        "data=text",
        f"data.path={tmp_path}/text.txt",
        "trainer.max_steps=20",
        *QUIET,
    )
    assert_same_curve(result, lecture.train(lecture.Settings("feedforward"), text, 20))


def test_a_curve_outside_the_tolerance_is_a_drift() -> None:
    recipe, curve = published()["multihead"]["recipe"], published()["multihead"]["curve"]

    def verdict(shift: float, **changes: object) -> str | None:
        points = [{"step": step, "train_estimate": train, "val_estimate": val + shift} for step, train, val in curve]
        compared = compare("multihead", {**recipe, **changes}, points)
        return compared and compared["verdict"]

    assert verdict(0.00004) == "MATCH"
    assert verdict(0.0001) == "DRIFT"
    assert verdict(0.0, seed=1) is None
    assert verdict(0.0, model={**recipe["model"], "scale": False}) is None
    assert compare("dropout", recipe, []) is None
    assert compare("multihead", recipe, [{"step": 7, "train_estimate": 3.0, "val_estimate": 3.0}]) is None
