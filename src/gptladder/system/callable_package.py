"""Packages that share their name with a function of the library.

``gptladder.runs`` is a package of modules, and ``gptladder.runs(directory)`` is a table. Python binds a package to its
name as soon as one of its modules is imported, so that the package itself has to be the function.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that calls the function of its name in ``gptladder.api.tables``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(import_module("gptladder.api.tables"), self.__name__.rpartition(".")[2])(*arguments, **options)


def make_callable(package: str) -> None:
    """Let a package be called."""
    sys.modules[package].__class__ = CallablePackage
