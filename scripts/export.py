"""Export a trained run: ``python scripts/export.py --run DIR [--format hf] [--out DIR]``."""

from gptladder.cli.commands.export import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
