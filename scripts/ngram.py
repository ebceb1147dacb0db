"""The n-gram baseline: ``python scripts/ngram.py [--order N ...] [--text FILE | --run DIR]``."""

from gptladder.cli.commands.ngram import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
