"""List or delete what is kept of large texts: ``python scripts/cache.py [--clear]``."""

from gptladder.cli.commands.cache import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
