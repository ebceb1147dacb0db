"""Write the page on the modern ladder: ``python scripts/modern.py outputs --out docs``."""

from gptladder.cli.commands.modern import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
