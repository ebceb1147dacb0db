"""A trained run as safetensors and JSON: ``python scripts/export.py --run DIR [--out DIR]``."""

from pathlib import Path

from gptladder.cli.main import Parser, script


def main() -> None:
    """Write the two files, and say where."""
    parser = Parser(description="A trained run for others: safetensors and JSON, which generate and evaluate accept.")
    parser.add_argument("--run", type=Path, required=True, help="a run directory; its last checkpoint is used")
    parser.add_argument("--out", type=Path, help="where the files go (default: export/ in the run directory)")
    arguments = parser.parse_args()

    from gptladder.runs.checkpoint import load_trained, net_weights, read_checkpoint
    from gptladder.runs.export import export

    checkpoint = arguments.run / "checkpoints" / "last.ckpt"
    load_trained(checkpoint)  # what does not load here is not handed on
    content = read_checkpoint(checkpoint)
    path = export(content["gptladder"], net_weights(content), arguments.out or arguments.run / "export")
    print(f"{path}: python scripts/generate.py --checkpoint {path}")


if __name__ == "__main__":
    script(main)
