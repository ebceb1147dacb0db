"""The notebook of the tour has one source, the chapters, and the numbers that they print."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from gptladder.runs.published import published
from gptladder.tour import select_chapters
from gptladder.tour.chapters import CHAPTERS
from gptladder.tour.notebook import build_notebook, write_notebook
from helpers.configs import ROOT, assert_refused

FILE = ROOT / "docs" / "lecture.ipynb"
MAX_BYTES = 1_000_000  # a code host renders notebooks of that size


@pytest.fixture(scope="module")
def lecture() -> Any:
    return nbformat.read(FILE, as_version=4)


def sources(notebook: Any) -> dict[str, str]:
    """The code of a notebook by cell; prose differs before and after it is executed."""
    return {cell.id: cell.source for cell in notebook.cells if "prose" not in cell.metadata.get("tags", ())}


def shown(notebook: Any) -> str:
    """Everything that the cells of a notebook show as text."""
    texts = []
    for cell in notebook.cells:
        texts += [cell.source] if cell.cell_type == "markdown" else []
        texts += ["".join(output.get("text") or output.data["text/plain"]) for output in cell.get("outputs", ())]
    return "\n".join(texts)


def test_the_notebook_in_the_docs_is_the_generated_one(lecture: Any) -> None:
    built = build_notebook(CHAPTERS)
    assert [cell.id for cell in lecture.cells] == [cell.id for cell in built.cells]
    generated = sources(built)
    assert {name: source for name, source in sources(lecture).items() if name in generated} == generated


def test_the_notebook_in_the_docs_is_executed_and_small_enough_to_be_shown(lecture: Any) -> None:
    nbformat.validate(lecture)
    assert FILE.stat().st_size < MAX_BYTES
    code = [cell for cell in lecture.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == sorted(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"stream", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    pictures = [cell.id.partition("-")[0] for cell in code for output in cell.outputs if "image/png" in str(output)]
    assert set(pictures) == {chapter.name for chapter in CHAPTERS}


def test_the_notebook_in_the_docs_has_the_numbers_of_the_lecture(lecture: Any) -> None:
    text = shown(lecture)
    for number in ("1,115,394", "4.8786", "4.6924", "3.7638", "2.3976", "0.1574  0.8426", "4.6667  5.3333"):
        assert number in text
    for rung in ("bigram", "gpt"):
        assert f"{published()[rung]['curve'][-1][2]:.4f}" in text


def test_every_cell_is_code_that_python_accepts() -> None:
    for cell in build_notebook(CHAPTERS).cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert "TourConsole" not in cell.source
            assert "type: ignore" not in cell.source
            assert "console.code(normalize)" not in cell.source  # a cell of its own has that source


def test_the_cells_of_a_chapter_print_what_the_tour_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cells run in this process, with the console of the tour in place of that of the notebook."""
    from gptladder.tour import TourConsole, depth, scaling
    from gptladder.tour.notebook_console import CONF

    class WithoutSource(TourConsole):
        """The cells hold the source that the tour prints."""

        def code(self, *functions: object) -> None:
            assert functions

    selected = select_chapters(["7", "8"])
    names: dict[str, Any] = {"console": WithoutSource(conf=CONF, plain=True)}
    for cell in build_notebook(selected).cells:
        if cell.cell_type == "code" and cell.id != "setup":
            exec(cell.source, names)
    by_cells = capsys.readouterr().out
    for module in (scaling, depth):
        module.show(WithoutSource(conf=CONF, plain=True))
    by_tour = capsys.readouterr().out
    assert by_cells == by_tour


@pytest.mark.slow
def test_a_notebook_is_written_executed(tmp_path: Path, lecture: Any) -> None:
    path = tmp_path / "a b.ipynb"
    write_notebook(CHAPTERS, path)
    written = nbformat.read(path, as_version=4)
    assert sources(written) == sources(lecture)

    def numbers(notebook: Any) -> list[str]:
        """Without the times of chapter 5, and without chapter 10, whose last digits depend on the processor."""
        cells = [cell for cell in notebook.cells if not re.fullmatch(r"averages-10|mistakes-\d+", cell.id)]
        return re.findall(r"\d+\.\d{3,4}\b", shown(nbformat.v4.new_notebook(cells=cells)))

    assert len(numbers(written)) > 150
    assert numbers(written) == numbers(lecture)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--notebook .", "--notebook=. cannot be written"),
        ("--notebook absent/lecture.ipynb", "--notebook=absent/lecture.ipynb cannot be written"),
        ("--chapter 12 --notebook x.ipynb", "--chapter=12 does not exist"),
    ],
)
def test_a_notebook_that_cannot_be_written_is_refused_before_anything_runs(
    arguments: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused("tour.py", arguments, named=named, monkeypatch=monkeypatch, capsys=capsys)
    assert list(tmp_path.iterdir()) == []
