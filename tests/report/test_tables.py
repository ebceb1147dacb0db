"""The table in each of its formats."""

import csv
import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from gptladder.report import Report, show_report, write_report
from gptladder.report.aggregate import Row, group_runs
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import NGramBaseline
from gptladder.report.tables import csv_table, latex_table, markdown_table
from gptladder.runs.configs import CONF, first_comment
from gptladder.system.errors import UserError
from helpers.processes import warm_command
from helpers.results import run

TIMES = ("seconds", "tokens_per_second")
NO_BASELINE = NGramBaseline("No n-gram baseline.")


def rows(directory: Path) -> list[Row]:
    return group_runs(load_runs(directory))


def printed(directory: Path, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show_report(Report(rows(directory), NO_BASELINE), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_equal_sweeps_have_equal_tables_except_for_times(tmp_path: Path) -> None:
    for sweep, seconds in (("one", 10.0), ("two", 99.0)):
        for rung in ("bigram", "multihead"):
            for seed in (1, 2):
                path = run(tmp_path / sweep, rung, seed=seed, wall_seconds=seconds, tokens_per_second=int(seconds))
                if sweep == "two":  # found in another order
                    shutil.move(path, path.with_name(f"{seed}-{rung}"))
    tables = [
        list(csv.DictReader(io.StringIO(csv_table(rows(tmp_path / sweep), NO_BASELINE)))) for sweep in ("one", "two")
    ]
    assert all(tables[0][0][key] != tables[1][0][key] for key in TIMES)
    without = [[{key: row[key] for key in row if key not in TIMES} for row in table] for table in tables]
    assert without[0] == without[1]


def test_the_csv_table_has_full_precision_and_no_paths(tmp_path: Path) -> None:
    run(tmp_path, "multihead", val_loss=2.123456789012345)
    text = csv_table(rows(tmp_path), NO_BASELINE)
    assert str(tmp_path) not in text
    assert "2.123456789012345" in text
    assert ",7553,4999," in text


@pytest.mark.parametrize("width", [80, 100, 120, 160, 250])
def test_the_terminal_table_fits_its_width_and_cuts_no_number(width: int, tmp_path: Path) -> None:
    for rung, shift in (("bigram", 0.0), ("multihead", 0.5)):
        for seed in (1, 2, 3):
            path = run(tmp_path, rung, seed=seed, shift=shift + seed / 100, tokens=10_000_000)
            overrides = f"- model={rung}\n- seed={seed}\n- optimizer.{'weight_decay' * 3}={shift}\n"
            (path / ".hydra/overrides.yaml").write_text(overrides)
    lines = printed(tmp_path, width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for row in rows(tmp_path):
        estimate, exact = row.mean("val_estimate"), row.mean("val_loss")
        assert estimate is not None
        assert exact is not None
        assert f"{estimate.mean:.4f} ± {estimate.std:.4f}" in text
        assert f"{exact.mean:.4f} ± {exact.half_width:.4f}" in text
    assert text.count("DRIFT") == 2
    assert "± 0.0000" in text  # the difference of the rungs
    assert ("A table of" in text) == (width >= 120)
    assert ("10,000,000" in text) == (width == 250)


def test_texts_from_runs_are_no_markup_in_the_terminal(tmp_path: Path) -> None:
    run(tmp_path, "bigram", description="[red]red[/]")
    assert any("[red]red[/]" in line for line in printed(tmp_path, 250))


def test_control_characters_from_runs_do_not_reach_the_terminal(tmp_path: Path) -> None:
    run(tmp_path, "bigram", description="\x1b[31mred\x07")
    assert not any("\x1b" in line or "\x07" in line for line in printed(tmp_path, 250))


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_of_the_csv_table_is_no_formula(start: str, tmp_path: Path) -> None:
    run(tmp_path, "bigram", description=f"{start}1+1")
    (row,) = csv.DictReader(io.StringIO(csv_table(rows(tmp_path), NO_BASELINE)))
    assert row["description"] == f"'{start}1+1"


def test_the_csv_table_has_the_sentence_and_the_changed_keys(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    run(tmp_path, "multihead", description="Four heads.")
    first, second = csv.DictReader(io.StringIO(csv_table(rows(tmp_path), NO_BASELINE)))
    assert first["description"] == first_comment(CONF / "model" / "bigram.yaml")
    assert (second["description"], second["changed"]) == ("Four heads.", "name bigram → multihead")


def test_the_error_of_a_failed_run_is_one_line_below_the_table(tmp_path: Path) -> None:
    run(tmp_path, "bigram", status="failed", error="Traceback\n  somewhere\nValueError: [bold] hot", published=None)
    assert printed(tmp_path, 200)[-1].strip() == "FAILED bigram, seed 1337: ValueError: [bold] hot"
    assert "- bigram, seed 1337: ValueError: [bold] hot" in markdown_table(rows(tmp_path), NO_BASELINE)


def test_every_line_of_a_markdown_table_has_the_same_number_of_cells(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    run(tmp_path, "multihead", description="a|b<script>")
    lines = markdown_table(rows(tmp_path), NO_BASELINE).replace("\\|", "").splitlines()
    table = lines[: lines.index("")]  # notes follow
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1


def test_latex_commands_in_texts_from_runs_are_escaped(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    run(tmp_path, "multihead", description="\\input{x} 5% & $y_1^2$")
    text = latex_table(rows(tmp_path), NO_BASELINE)
    assert r"\textbackslash{}input\{x\} 5\% \& \$y\_1\textasciicircum{}2\$" in text


def test_the_script_prints_the_paths_of_its_files(tmp_path: Path) -> None:
    run(tmp_path / "runs", "bigram")
    done = warm_command("scripts/report.py", "runs", "--out", "there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "there/report.html" in done.stdout.splitlines()
    assert not (tmp_path / "runs/table.md").exists()


def test_an_output_directory_that_cannot_be_created_is_a_user_error(tmp_path: Path) -> None:
    run(tmp_path / "runs", "bigram")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        write_report(tmp_path / "runs", tmp_path / "file")
