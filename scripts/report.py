"""Write the report of a directory of runs: ``python scripts/report.py outputs/ladder``."""

from gptladder.cli.commands.report import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
