"""Analyze a trained run: ``python scripts/inspect_run.py --run DIR [--prompt "ROMEO:"]``."""

from gptladder.cli.commands.inspect_run import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
