"""The report: made from run directories alone, in any state."""

import csv
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from gptladder.report import FILES, write_report
from gptladder.runs.published import published
from gptladder.system.errors import UserError
from helpers.results import run


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_file_is_written_and_rungs_come_in_the_order_of_the_ladder(tmp_path: Path) -> None:
    for rung in ("layernorm", "bigram", "multihead"):
        run(tmp_path, rung)
    write_report(tmp_path)
    assert all((tmp_path / name).stat().st_size for name in FILES)
    assert [row["rung"] for row in table(tmp_path)] == ["bigram", "multihead", "layernorm"]
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_seeds_are_one_row_with_mean_and_standard_deviation(tmp_path: Path) -> None:
    for seed, shift in ((1337, 0.0), (1338, 0.1), (1339, -0.1)):
        run(tmp_path, "multihead", seed=seed, shift=shift)
    write_report(tmp_path)
    (row,) = table(tmp_path)
    last = published()["multihead"]["curve"][-1]
    assert float(row["val_estimate"]) == pytest.approx(last[2])
    assert float(row["val_estimate_std"]) == pytest.approx(0.1)
    assert row["seeds"] == "1337 1338 1339"


def test_neighboring_rungs_are_compared_by_seed_and_noise_is_named(tmp_path: Path) -> None:
    for seed, below, above in ((1, 0.00, 0.10), (2, 0.02, -0.09), (3, 0.01, 0.02)):
        run(tmp_path, "residual", seed=seed, shift=below)
        run(tmp_path, "layernorm", seed=seed, shift=above)
    write_report(tmp_path)
    assert table(tmp_path)[1]["within_noise"] == "True"
    assert "within noise" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("status", "cell"), [("failed", "FAILED"), ("interrupted", "INTERRUPTED"), ("pending", "PENDING")]
)
def test_an_unfinished_run_is_listed_with_its_status(status: str, cell: str, tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    run(tmp_path, "multihead", status=status, error="Traceback\nValueError: too hot", published=None)
    write_report(tmp_path)
    assert [row["status"] for row in table(tmp_path)] == ["MATCH", cell]


def test_a_run_with_status_running_and_no_lock_was_interrupted(tmp_path: Path) -> None:
    path = run(tmp_path, "multihead", status="running", published=None)
    with FileLock(path / ".lock"):
        write_report(tmp_path)
        assert table(tmp_path)[0]["status"] == "RUNNING"
    write_report(tmp_path)
    assert table(tmp_path)[0]["status"] == "INTERRUPTED"


def test_a_run_that_was_copied_twice_counts_once(tmp_path: Path) -> None:
    shutil.copytree(run(tmp_path / "here", "bigram"), tmp_path / "there" / "again")
    write_report(tmp_path)
    (row,) = table(tmp_path)
    assert row["seeds"] == "1337"


@pytest.mark.xdist_group("finished_run")
def test_the_page_shows_samples_and_the_attention_of_a_real_run(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "runs" / "multihead")
    write_report(tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_directory_without_runs_is_a_user_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        write_report(tmp_path / name)


def test_two_hundred_runs_become_one_row_per_rung(tmp_path: Path) -> None:
    rungs = sorted(set(published()) - {"gpt"})
    for seed in range(25):
        for rung in rungs:
            run(tmp_path, rung, seed=seed, shift=seed / 1000)
    write_report(tmp_path)
    assert len(table(tmp_path)) == len(rungs)
