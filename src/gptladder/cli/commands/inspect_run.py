"""Analyze a trained run."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser, run_dir


def main() -> None:
    """Write charts, values and a page, and print their paths."""
    parser = ArgumentParser(description="The loss per token and by position of a trained run, and its attention.")
    parser.add_argument("--run", type=run_dir, required=True, help="a run directory, or latest")
    parser.add_argument("--prompt", help="show the attention over this prompt (default: the start of the text)")
    parser.add_argument("--text", type=Path, help="a UTF-8 file to evaluate instead of the validation split")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/analysis)")
    arguments = parser.parse_args()

    from gptladder.data.text import read_text
    from gptladder.evaluation.analysis import analyze
    from gptladder.evaluation.attention_maps import MAX_LABELED_TOKENS
    from gptladder.report.analysis_page import write_analysis
    from gptladder.runs.checkpoint import load_trained, recorded_tokens
    from gptladder.runs.run import checkpoint_path

    trained = load_trained(checkpoint_path(arguments.run))
    encode = trained.tokenizer.encode
    # The prompt first: an error in it should not have to wait for the evaluation of a whole split.
    prompt = None if arguments.prompt is None else encode(arguments.prompt)
    tokens = recorded_tokens(trained)[1] if arguments.text is None else encode(read_text(arguments.text, key="--text"))
    if prompt is None:
        prompt = tokens[: min(trained.block_size, MAX_LABELED_TOKENS)]
    sizes = {"block_size": trained.block_size, "vocab_size": trained.tokenizer.vocab_size}
    analysis = analyze(trained.net, tokens, prompt=prompt, **sizes)
    title = arguments.run.resolve().name
    for path in write_analysis(analysis, trained, title=title, out=arguments.out or arguments.run / "analysis"):
        print(path)
