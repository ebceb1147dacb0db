"""Test the lecture's claims."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser


def main() -> None:
    """Print how each claim is answered, and write ``claims.md``."""
    parser = ArgumentParser(description="Test the claims of the lecture and its notebook on runs over seeds.")
    parser.add_argument("directories", type=Path, nargs="+", help="where the runs are, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="the directory to write claims.md to")
    parser.add_argument(
        "--note", default="", help="a last sentence, such as the machine and the time that the runs took"
    )
    arguments = parser.parse_args()

    from gptladder.report.claims import claims_page, evaluate_claims
    from gptladder.report.load_runs import load_runs
    from gptladder.system.errors import UserError
    from gptladder.system.files import write_files

    for directory in arguments.directories:
        if not directory.is_dir():
            raise UserError(f"{directory} is not a directory: name directories that contain runs")
    runs = [run for directory in arguments.directories for run in load_runs(directory)]
    results = evaluate_claims(runs)
    write_files({"claims.md": claims_page(results, runs, arguments.note).encode()}, arguments.out)
    for result in results:
        print(f"{result.answer:<18} {result.claim.text}")
    print(arguments.out / "claims.md")
