"""Write the report of a directory of runs."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser


def main() -> None:
    """Print the table and the paths of the files."""
    parser = ArgumentParser(description="Tables, charts and a page of all runs in a directory, finished or not.")
    parser.add_argument("directory", type=Path, help="where the runs are, at any depth")
    parser.add_argument("--out", type=Path, help="where to write (default: DIRECTORY)")
    arguments = parser.parse_args()

    from rich.console import Console

    from gptladder.report import FILES, show_report, write_report

    show_report(write_report(arguments.directory, arguments.out), Console(highlight=False))
    for name in FILES:
        print((arguments.out or arguments.directory) / name)
