"""Imports between the packages of ``gptladder`` point one way, from later packages to earlier ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.configs import ROOT

PACKAGES = (
    *("system", "data", "model", "evaluation", "generation", "runs"),
    *("fast", "training", "sweeps", "report", "tour", "cli"),
    "api",  # the commands as functions: it uses what the command line uses
)
MODULES = sorted((ROOT / "src").rglob("*.py"))


def imported_packages(module: Path) -> Iterator[str]:
    """The packages of ``gptladder`` that a module imports, at any depth of its code."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "gptladder":
            yield from (alias.name for alias in node.names if alias.name in PACKAGES)
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("gptladder."))


def test_every_package_has_its_place_in_the_order() -> None:
    assert sorted(path.parent.name for path in (ROOT / "src/gptladder").glob("*/__init__.py")) == sorted(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_earlier_packages(package: str) -> None:
    allowed = PACKAGES[: PACKAGES.index(package) + 1]
    backward = {
        f"{module.relative_to(ROOT)} imports {name}"
        for module in MODULES
        if module.is_relative_to(ROOT / "src/gptladder" / package)
        for name in imported_packages(module)
        if name not in allowed
    }
    assert not backward


def test_one_module_imports_the_fast_package() -> None:
    outside = [module for module in MODULES if "fast" not in module.parts]
    assert [str(path.relative_to(ROOT)) for path in outside if "fast" in imported_packages(path)] == [
        "src/gptladder/training/speed.py"
    ]


def test_only_reports_tours_commands_and_the_sweeper_import_the_report() -> None:
    importers = {module.parent.name for module in MODULES if "report" in imported_packages(module)}
    assert importers <= {"report", "tour", "gptladder_sweeper", "gptladder", "api", "commands"}
