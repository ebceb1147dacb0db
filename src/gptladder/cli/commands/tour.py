"""The lecture's notebooks with this package's parts."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser


def main() -> None:
    """Show the selected chapters, or list all."""
    parser = ArgumentParser(
        description="The lecture chapter by chapter, and the parts of Llama, with the numbers of its notebooks."
    )
    parser.add_argument(
        "--chapter",
        action="append",
        default=[],
        metavar="N",
        help="a number, a range such as 2-4, or a name; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="list the chapters and exit")
    parser.add_argument("--plain", action="store_true", help="no colors, boxes or progress bars, for pipes and files")
    parser.add_argument("--save", type=Path, metavar="DIR", help="save the plots of the chapters in DIR, as PNG")
    parser.add_argument("--notebook", type=Path, metavar="FILE", help="write the chapters as an executed notebook")
    arguments = parser.parse_args()

    from gptladder.runs.configs import CONF
    from gptladder.tour import TourConsole, run_tour, select_chapters

    chapters = select_chapters(arguments.chapter)
    console = TourConsole(conf=CONF, plain=arguments.plain, save=arguments.save)
    if arguments.list:
        console.table(["chapter", "name", "title"], chapters, n_left=3)
    elif arguments.notebook is not None:
        from gptladder.tour.notebook import write_notebook

        write_notebook(chapters, arguments.notebook)
        print(arguments.notebook)
    else:
        run_tour(chapters, console)
