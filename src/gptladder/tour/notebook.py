"""The tour as a notebook, generated from the source of its chapters.

The code of a chapter becomes a cell of definitions. The body of its ``show`` becomes the cells that follow: each
paragraph is a cell of prose, and what lies between two paragraphs is a cell of code.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write
from gptladder.tour.chapters import Chapter

TIMEOUT = 600  # seconds for a cell
PROSE = "prose"  # the tag of a cell whose output becomes its text

TITLE = """# The lecture, chapter by chapter

From the text to the ladder, with the parts of `gptladder` and the numbers of the lecture's notebooks. This notebook is
generated: `python scripts/tour.py --notebook docs/lecture.ipynb` writes it again."""

SETUP = """from __future__ import annotations

import torch

from gptladder.tour.notebook_console import NotebookConsole

torch.set_num_threads(1)  # for tensors this small, a second thread waits longer than it helps
console = NotebookConsole()  # shows values, tables, matrices and plots"""


def write_notebook(chapters: Iterable[Chapter], path: Path) -> None:
    """Write the chapters as an executed notebook.

    Raises:
        UserError: a library is not installed, or the file cannot be written; the latter is checked first.
    """
    _check_writable(path)
    notebook = execute(build_notebook(chapters))
    try:
        with atomic_write(path) as file:
            file.write((_import("nbformat").writes(notebook).rstrip() + "\n").encode())
    except OSError as error:
        raise UserError(f"--notebook={path} cannot be written ({error.strerror}): name another file") from None


def build_notebook(chapters: Iterable[Chapter]) -> Any:
    """The notebook before it is executed.

    Raises:
        UserError: nbformat is not installed.
    """
    v4 = _import("nbformat").v4
    cells = [v4.new_markdown_cell(TITLE, id="title"), v4.new_code_cell(SETUP, id="setup")]
    for chapter in chapters:
        module = import_module(f"gptladder.tour.{chapter.name}")
        heading = f"## {chapter.number}. {chapter.title}\n\n{_idea(module)}"
        cells.append(v4.new_markdown_cell(heading, id=chapter.name))
        for number, cell in enumerate(_chapter_cells(module), start=1):
            new = v4.new_code_cell(cell.source, id=f"{chapter.name}-{number}")
            new.metadata.update({"tags": [PROSE]} if cell.is_prose else {})
            cells.append(new)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def execute(notebook: Any) -> Any:
    """Run all cells in a kernel of their own, and turn the output of prose into cells of text.

    Raises:
        UserError: nbclient or ipykernel is not installed.
    """
    nbclient, v4 = _import("nbclient"), _import("nbformat").v4
    _import("ipykernel")
    metadata = dict(notebook.metadata)
    config = import_module("traitlets.config").Config({"KernelManager": {"transport": "ipc"}})  # no open port
    options = {
        "timeout": TIMEOUT,
        "kernel_name": "python3",
        "record_timing": False,
        "coalesce_streams": True,
        "config": config,
    }
    nbclient.NotebookClient(notebook, **options).execute()
    notebook.metadata = metadata  # without the version of this Python
    for index, cell in enumerate(notebook.cells):
        if PROSE in cell.metadata.get("tags", ()):
            (output,) = cell.outputs
            notebook.cells[index] = v4.new_markdown_cell(output.data["text/markdown"], id=cell.id)
    return notebook


@dataclass(frozen=True)
class Cell:
    """The source of a cell, which prints prose or not."""

    source: str
    is_prose: bool = False


def _idea(module: ModuleType) -> str:
    """The first sentence of a chapter's docstring, without its number."""
    idea = (module.__doc__ or "").partition("\n")[0].partition(": ")[2]
    return idea[:1].upper() + idea[1:]


def _chapter_cells(module: ModuleType) -> Iterator[Cell]:
    """The definitions of a module, then the body of its ``show``."""
    yield Cell(_definitions(module))
    yield from _shown(module, "show")


def _shown(module: ModuleType, name: str) -> Iterator[Cell]:
    """The body of a function that prints to the console; functions that it calls to print are shown in their place."""
    source = inspect.getsource(module).splitlines()
    pending: list[str] = []

    def flush() -> Iterator[Cell]:
        if pending:
            yield Cell("\n".join(pending))
            pending.clear()

    for statement in _functions(module)[name].body[1:]:  # after the docstring
        code = dedent("\n".join(source[statement.lineno - 1 : statement.end_lineno]))
        called = _called_with_console(statement)
        if called is not None:
            yield from flush()
            origin = inspect.getmodule(getattr(module, called)) or module
            if origin is not module:
                yield Cell(_definitions(origin))
            yield from _shown(origin, called)
        elif code.startswith("console.paragraph("):
            yield from flush()
            yield Cell(code, is_prose=True)
        elif not _shows_definitions(statement, module):
            is_paragraph_start = pending and not source[statement.lineno - 2].strip()
            pending += ["", code] if is_paragraph_start else [code]
    yield from flush()


def _definitions(module: ModuleType) -> str:
    """The source of a module without its docstring and the functions that print."""
    source = inspect.getsource(module).splitlines()
    printing = {node for node in _functions(module).values() if _takes_console(node)}
    kept: list[str] = []
    last = 0
    for node in ast.parse("\n".join(source)).body:
        first, last = last, node.end_lineno or node.lineno
        is_printing = any(node.lineno == other.lineno for other in printing)
        if not is_printing and not _is_preamble(node, module):
            kept += source[first:last]
        elif not source[first].strip():  # what follows keeps its distance
            kept.append("")
    text = re.sub(r"  # type: ignore.*", "", "\n".join(kept))
    return re.sub(r"\n{4,}", "\n\n\n", text).strip()


def _is_preamble(node: ast.stmt, module: ModuleType) -> bool:
    """What a notebook does not need: the docstring, imports for the console, and of functions that print to it."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.ImportFrom):
        return False
    names = [getattr(module, alias.name, None) for alias in node.names]
    is_printing = all(
        inspect.isfunction(name) and [*inspect.signature(name).parameters] == ["console"] for name in names
    )
    return is_printing or node.module in ("__future__", "gptladder.tour.console")


def _functions(module: ModuleType) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.FunctionDef)}


def _takes_console(function: ast.FunctionDef) -> bool:
    return [argument.arg for argument in function.args.args] == ["console"]


def _called_with_console(statement: ast.stmt) -> str | None:
    """The function that a statement such as ``show_toy(console)`` calls."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[ast.Name(id="console")], keywords=[])):
            return name
    return None


def _shows_definitions(statement: ast.stmt, module: ModuleType) -> bool:
    """Whether a statement shows only source that the cell of definitions has: ``console.code(average)``."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="console"), attr="code"), args=arguments)):
            names = [argument.id for argument in arguments if isinstance(argument, ast.Name)]
            own = [name for name in names if getattr(module, name).__module__ == module.__name__]
            return len(own) == len(arguments)
    return False


def _check_writable(path: Path) -> None:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"--notebook={path} cannot be written: name a file in a directory that exists")


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"--notebook needs {name}, which is not installed: pip install {name}") from None
