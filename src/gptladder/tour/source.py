"""The source of functions, read from the running code."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import gptladder

ROOT = Path(gptladder.__file__).parents[2]  # of a checkout


def locate(function: Callable[..., object]) -> str:
    """Where a function is: ``src/gptladder/model/block.py:55``."""
    path, line = Path(inspect.getfile(function)), inspect.getsourcelines(function)[1]
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return f"{shown}:{line}"


def read_source(function: Callable[..., object]) -> str:
    """The lines of a function without its docstring."""
    lines = textwrap.dedent(inspect.getsource(function)).rstrip().split("\n")
    (definition,) = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.FunctionDef)
    first = definition.body[0]
    if ast.get_docstring(definition) is not None and first.end_lineno is not None:
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)
