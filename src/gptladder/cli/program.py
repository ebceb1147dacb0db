"""The program that an installation puts on the path: ``gpt-ladder model=gpt``, ``gpt-ladder generate --run DIR``."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

from gptladder.cli import main as training
from gptladder.cli.commands import COMMANDS
from gptladder.cli.script import USER_ERROR, run_script
from gptladder.runs.configs import CONF
from gptladder.system.commands import PROGRAM, SCRIPTS


def main() -> None:
    """Run a command if the first word names one; otherwise train, as ``train.py`` does."""
    name = next(iter(sys.argv[1:]), "")
    if name in COMMANDS:
        sys.argv[:2] = [f"{PROGRAM} {name}"]  # which --help shows
        run_script(import_module(f"gptladder.cli.commands.{SCRIPTS.get(name, name)}").main)
    elif close := difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.75):
        print(f"error: {name} is not a command: did you mean {close[0]}?", file=sys.stderr)
        raise SystemExit(USER_ERROR)
    else:
        training.main(conf=CONF)
