"""Generate text with a trained run: ``python scripts/generate.py --run DIR --prompt "ROMEO:"``."""

from gptladder.cli.commands.generate import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
