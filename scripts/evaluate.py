"""The exact loss of a trained run: ``python scripts/evaluate.py --run DIR [--text FILE]``."""

from gptladder.cli.commands.evaluate import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
