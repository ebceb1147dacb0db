"""Test the lecture's claims: ``python scripts/claims.py outputs/ladder outputs/no_scale --out docs``."""

from gptladder.cli.commands.claims import main
from gptladder.cli.script import run_script

if __name__ == "__main__":
    run_script(main)
