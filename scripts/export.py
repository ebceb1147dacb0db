"""Export a trained run as safetensors and JSON: ``python scripts/export.py --run DIR [--out DIR]``."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser, run_dir, run_script


def main() -> None:
    """Write the two files and print their path."""
    parser = ArgumentParser(
        description="Export a trained run as safetensors and JSON; generate.py and evaluate.py read them."
    )
    parser.add_argument("--run", type=run_dir, required=True, help="a run directory, or latest")
    parser.add_argument("--out", type=Path, help="the output directory (default: export/ in the run directory)")
    arguments = parser.parse_args()

    from gptladder.runs.checkpoint import load_trained, net_weights, read_checkpoint
    from gptladder.runs.export import export

    checkpoint = arguments.run / "checkpoints" / "last.ckpt"
    load_trained(checkpoint)  # refuse to export a checkpoint that does not load
    content = read_checkpoint(checkpoint)
    path = export(content["gptladder"], net_weights(content), arguments.out or arguments.run / "export")
    print(f"{path}: python scripts/generate.py --checkpoint {path}")


if __name__ == "__main__":
    run_script(main)
