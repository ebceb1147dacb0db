"""How a user types our commands: as scripts of a checkout, as ``gpt-ladder``, or as calls in Python."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PROGRAM = "gpt-ladder"

# The subcommands of `gpt-ladder` whose script has another name: scripts/inspect.py would hide Python's own module.
SCRIPTS = {"inspect": "inspect_run"}

_ROOT = Path(__file__).resolve().parents[3]
_in_python = ContextVar("in_python", default=False)


def train_command(*words: str) -> str:
    """The command that trains: ``python train.py model=gpt`` in a checkout, ``gpt-ladder model=gpt`` elsewhere."""
    return shlex.join([*(("python", "train.py") if is_checkout() else (PROGRAM,)), *words])


def script_command(name: str, *words: str) -> str:
    """Another command by its name, such as ``python scripts/generate.py --run DIR`` or ``gpt-ladder generate ...``."""
    if is_checkout():
        return shlex.join(["python", f"scripts/{SCRIPTS.get(name, name)}.py", *words])
    return shlex.join([PROGRAM, name, *words])


def resume_command(path: Path) -> str:
    """What resumes a run: a command, or a call where the run was started by one."""
    return f"gptladder.train(resume={str(path)!r})" if is_called_from_python() else train_command(f"resume={path}")


def install_command(*extras: str) -> str:
    """What installs optional dependencies: ``pip install -e '.[bpe]'`` in a checkout."""
    words = ("-e", f"'.[{','.join(extras)}]'") if is_checkout() else (f"'{PROGRAM}[{','.join(extras)}]'",)
    return " ".join(["pip install", *words])


@contextmanager
def in_python() -> Iterator[None]:
    """The body was called from Python: what it tells the user to do next is a call too."""
    token = _in_python.set(True)
    try:
        yield
    finally:
        _in_python.reset(token)


def is_called_from_python() -> bool:
    """Whether ``gptladder.train`` is running, and not a command."""
    return _in_python.get()


def is_checkout() -> bool:
    """Whether commands are scripts of a checkout here, whose ``conf/`` people edit."""
    return not Path(sys.argv[0]).name.startswith(PROGRAM) and (_ROOT / "train.py").is_file()
