"""The lecture's notebooks, told by this package: ``python scripts/tour.py [--chapter N]``."""

from pathlib import Path

from gptladder.cli.main import Parser, script

CONF = Path(__file__).parents[1] / "conf"


def main() -> None:
    """Show the chapters that were asked for, or list them all."""
    parser = Parser(description="From a text to the ladder in nine chapters, with the numbers of the notebooks.")
    parser.add_argument(
        "--chapter",
        action="append",
        default=[],
        metavar="N",
        help="a number, a range such as 2-4, or a name; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="list the chapters and show none")
    parser.add_argument("--plain", action="store_true", help="no colours, no boxes: for pipes and files")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write the chapters' pictures there, as PNG")
    arguments = parser.parse_args()

    from gptladder.tour import Board, chosen, guide

    chapters = chosen(arguments.chapter)
    board = Board(conf=CONF, plain=arguments.plain, save=arguments.save)
    if arguments.list:
        board.table(["chapter", "name", "title"], chapters, left=3)
    else:
        guide(chapters, board)


if __name__ == "__main__":
    script(main)
