"""gpt-ladder: from a bigram table to a GPT, one rung at a time.

``import gptladder`` imports nothing else: each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptladder.api.run import Run
    from gptladder.api.tables import report, runs
    from gptladder.api.train import compose, train
    from gptladder.api.trained import Trained, load
    from gptladder.data.datamodule import TextDataModule
    from gptladder.data.tokenizer import CharTokenizer
    from gptladder.model.gpt import GPT, Bigram
    from gptladder.system.errors import UserError
    from gptladder.training.lightning_module import LanguageModel

__all__ = [
    "GPT",
    "Bigram",
    "CharTokenizer",
    "LanguageModel",
    "Run",
    "TextDataModule",
    "Trained",
    "UserError",
    "compose",
    "load",
    "report",
    "runs",
    "train",
]

__version__ = "0.2.0"

# The module of each name.
_MODULES = {
    "compose": "api.train",
    "train": "api.train",
    "load": "api.trained",
    "runs": "api.tables",
    "report": "api.tables",
    "Run": "api.run",
    "Trained": "api.trained",
    "GPT": "model.gpt",
    "Bigram": "model.gpt",
    "LanguageModel": "training.lightning_module",
    "TextDataModule": "data.datamodule",
    "CharTokenizer": "data.tokenizer",
    "UserError": "system.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
