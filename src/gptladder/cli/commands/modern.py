"""Write the page on the modern ladder."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser


def main() -> None:
    """Write ``modern.md`` from the sweeps of the three experiments."""
    parser = ArgumentParser(description="Write modern.md, the tables of the ladder from nanoGPT to Llama.")
    parser.add_argument("directory", type=Path, help="where modern, modern_equal_time and modern_ablation are")
    parser.add_argument("--out", type=Path, required=True, help="the directory to write modern.md to")
    parser.add_argument(
        "--note", default="", help="a last sentence, such as the machine and the time that the runs took"
    )
    arguments = parser.parse_args()

    from gptladder.report.aggregate import group_runs
    from gptladder.report.load_runs import load_runs
    from gptladder.report.modern import SECTIONS, modern_page
    from gptladder.system.commands import train_command
    from gptladder.system.errors import UserError
    from gptladder.system.files import write_files

    rows = {section.sweep: group_runs(load_runs(arguments.directory / section.sweep)) for section in SECTIONS}
    missing = [sweep for sweep, found in rows.items() if not found]
    if len(missing) == len(rows):
        command = train_command(f"experiment={missing[0]}")
        raise UserError(f"there are no runs in {arguments.directory / missing[0]}: {command} makes them")
    for sweep in missing:
        print(f"left out: {sweep}, which {train_command(f'experiment={sweep}')} trains")
    write_files({"modern.md": modern_page(rows, arguments.note).encode()}, arguments.out)
    print(arguments.out / "modern.md")
