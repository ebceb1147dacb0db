"""The lecture's notebooks with this package's parts: ``python scripts/tour.py [--chapter N]``."""

from gptladder.cli.commands.tour import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
