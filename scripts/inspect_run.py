"""Look inside a trained run: ``python scripts/inspect_run.py --run DIR [--prompt "ROMEO:"]``."""

from pathlib import Path

from gptladder.cli.main import ArgumentParser, run_script


def main() -> None:
    """Write pictures, figures and a page, and print their paths."""
    parser = ArgumentParser(
        description="What surprises a trained run, what its heads read, what each token of context is worth."
    )
    parser.add_argument("--run", type=Path, required=True, help="a run directory; its last checkpoint is used")
    parser.add_argument("--prompt", help="whose attention is drawn, its last block at most (default: the text's start)")
    parser.add_argument("--text", type=Path, help="a UTF-8 file to measure on instead of the validation split")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/inspection)")
    arguments = parser.parse_args()

    from gptladder.data.text import read_text
    from gptladder.evaluation.analysis import inspect
    from gptladder.evaluation.attention_maps import READABLE
    from gptladder.report.inside import write_inspection
    from gptladder.runs.checkpoint import load_trained, recorded_tokens

    trained = load_trained(arguments.run / "checkpoints" / "last.ckpt")
    encode = trained.tokenizer.encode
    # The prompt first: a mistake in it is cheaper to find than the loss of a whole split.
    prompt = None if arguments.prompt is None else encode(arguments.prompt)
    tokens = recorded_tokens(trained)[1] if arguments.text is None else encode(read_text(arguments.text, key="--text"))
    if prompt is None:
        prompt = tokens[: min(trained.block_size, READABLE)]
    seen = inspect(trained, tokens, prompt=prompt)
    title = arguments.run.resolve().name
    for path in write_inspection(seen, trained, title=title, out=arguments.out or arguments.run / "inspection"):
        print(path)


if __name__ == "__main__":
    run_script(main)
