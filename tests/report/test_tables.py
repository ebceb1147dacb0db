"""Claims about the table in each of its forms."""

import csv
import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from gptladder.report import show_report, write_report
from gptladder.report.collect import collect
from gptladder.report.rows import Row, arranged
from gptladder.report.tables import comma_separated, latex, markdown
from gptladder.system.errors import UserError
from helpers.configs import command
from helpers.results import run

TIMES = ("seconds", "tokens_per_second")


def rows(directory: Path) -> list[Row]:
    return arranged(collect(directory))


def printed(directory: Path, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show_report(rows(directory), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_sweeps_with_the_same_results_have_the_same_table_but_for_its_times(tmp_path: Path) -> None:
    for sweep, seconds in (("one", 10.0), ("two", 99.0)):
        for rung in ("bigram", "multihead"):
            for seed in (1, 2):
                path = run(tmp_path / sweep, rung, seed=seed, wall_seconds=seconds, tokens_per_second=int(seconds))
                if sweep == "two":  # found in another order
                    shutil.move(path, path.with_name(f"{seed}-{rung}"))
    tables = [list(csv.DictReader(io.StringIO(comma_separated(rows(tmp_path / sweep))))) for sweep in ("one", "two")]
    assert all(tables[0][0][key] != tables[1][0][key] for key in TIMES)
    without = [[{key: row[key] for key in row if key not in TIMES} for row in table] for table in tables]
    assert without[0] == without[1]


def test_the_table_for_programs_knows_no_paths_and_is_exact(tmp_path: Path) -> None:
    run(tmp_path, "multihead", val_loss=2.123456789012345)
    text = comma_separated(rows(tmp_path))
    assert str(tmp_path) not in text
    assert "2.123456789012345" in text
    assert ",7553,4999," in text


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_row_is_a_line_at_every_width_and_keeps_its_name_and_verdict(width: int, tmp_path: Path) -> None:
    for rung in ("bigram", "multihead"):
        run(tmp_path, rung)
    header, *lines = printed(tmp_path, max(width, 80))
    assert [line.split()[0] for line in lines] == ["bigram", "multihead"]
    assert all("MATCH" in line for line in lines)
    assert ("tokens/s" in header) == (width == 200)


def test_what_failed_is_said_under_the_table_in_one_line(tmp_path: Path) -> None:
    run(tmp_path, "bigram", status="failed", error="Traceback\n  somewhere\nValueError: [bold] hot", published=None)
    assert printed(tmp_path, 200)[-1].strip() == "FAILED bigram, seed 1337: ValueError: [bold] hot"
    assert "- bigram, seed 1337: ValueError: [bold] hot" in markdown(rows(tmp_path))


def test_every_line_of_a_markdown_table_has_the_same_cells(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    path = run(tmp_path, "multihead")
    (path / ".hydra/config.yaml").write_text("model:\n  name: 'a|b<script>'\n")
    lines = markdown(rows(tmp_path)).replace("\\|", "").splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_latex_gets_no_command_from_a_run(tmp_path: Path) -> None:
    run(tmp_path, "bigram")
    path = run(tmp_path, "multihead")
    (path / ".hydra/config.yaml").write_text("model:\n  name: '\\input{x} 5% & $y_1^2$'\n")
    text = latex(rows(tmp_path))
    assert r"\textbackslash{}input\{x\} 5\% \& \$y\_1\textasciicircum{}2\$" in text


def test_the_script_says_what_it_wrote_where(tmp_path: Path) -> None:
    run(tmp_path / "runs", "bigram")
    done = command("scripts/report.py", "runs", "--out", "there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "there/report.html" in done.stdout.splitlines()
    assert not (tmp_path / "runs/table.md").exists()


def test_an_output_that_cannot_be_is_a_mistake(tmp_path: Path) -> None:
    run(tmp_path / "runs", "bigram")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        write_report(tmp_path / "runs", tmp_path / "file")
