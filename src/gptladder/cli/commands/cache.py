"""List or delete what is kept of large texts."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser


def main() -> None:
    """Print a table of the files with their sizes and ages; with ``--clear``, delete them."""
    parser = ArgumentParser(description="List the tokens and merges that are kept of large texts, or delete them.")
    parser.add_argument("--clear", action="store_true", help="delete them; a run that uses one keeps it until it ends")
    parser.add_argument("--dir", help="a directory that data.cache named (default: $GPTLADDER_CACHE, or the user's)")
    arguments = parser.parse_args()

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gptladder.data.cache import CacheFile, cache_directory, cache_files, clear_cache
    from gptladder.data.merges_cache import describe_merges
    from gptladder.data.token_cache import describe_tokens
    from gptladder.system.errors import UserError, printable
    from gptladder.system.units import format_duration, format_size

    directory = cache_directory(arguments.dir)
    if arguments.dir is not None and not Path(arguments.dir).is_dir():
        raise UserError(f"--dir {arguments.dir} is not a directory")

    def summary(files: list[CacheFile]) -> str:
        size = format_size(sum(file.n_bytes for file in files))
        return f"{len(files)} file{'s'[: len(files) != 1]}, {size}"

    if arguments.clear:
        print(f"deleted {summary(clear_cache(directory))} from {directory}")
        return
    files = list(cache_files(directory))
    print(f"{directory}: {summary(files)}")
    if not files:
        return
    table = Table("size", "age", "content")
    for file in files:
        describe = describe_tokens if file.path.suffix == ".tokens" else describe_merges
        table.add_row(format_size(file.n_bytes), format_duration(file.age), Text(printable(describe(file.path))))
    Console().print(table)
