"""Generate text with a trained run."""

import sys
from pathlib import Path

from gptladder.cli.script import ArgumentParser, run_dir


def main() -> None:
    """Print the generated text to stdout while it is generated, and nothing else."""
    parser = ArgumentParser(description="Generate text with a trained run; stdout gets the text and nothing else.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=run_dir, help="a run directory, or latest")
    source.add_argument("--checkpoint", type=Path, help="a checkpoint file")
    parser.add_argument(
        "--prompt", default="", help="the text to continue; empty (default) starts from a newline, as in the lecture"
    )
    parser.add_argument("--prompt-file", type=Path, help="a UTF-8 file with the text to continue")
    parser.add_argument("--tokens", type=int, default=500, help="the number of tokens to generate (default 500)")
    parser.add_argument("--samples", type=int, default=1, help="the number of samples, a line of dashes between them")
    randomness = parser.add_mutually_exclusive_group()
    randomness.add_argument("--temperature", type=float, default=1.0, help="below 1 is less random, 0 is greedy")
    parser.add_argument("--top-k", type=int, help="sample from the k most likely tokens only")
    parser.add_argument("--top-p", type=float, help="sample from the most likely tokens with that probability together")
    randomness.add_argument("--greedy", action="store_true", help="always take the most likely token (--temperature 0)")
    parser.add_argument("--seed", type=int, default=1337, help="the seed of the sampling (default 1337)")
    arguments = parser.parse_args()

    from gptladder.data.text import read_text
    from gptladder.generation.sampling import generate_text
    from gptladder.runs.checkpoint import load_trained
    from gptladder.runs.run import checkpoint_path
    from gptladder.system.errors import printable
    from gptladder.training import speed

    trained = load_trained(arguments.checkpoint or checkpoint_path(arguments.run))
    pieces = generate_text(
        speed.prepare_for_generation(trained.net),
        trained.tokenizer,
        read_text(arguments.prompt_file, key="--prompt-file") if arguments.prompt_file else arguments.prompt,
        n_samples=arguments.samples,
        n_tokens=arguments.tokens,
        block_size=trained.block_size,
        temperature=0.0 if arguments.greedy else arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    is_terminal = sys.stdout.isatty()  # which would obey control characters of the text
    for piece in pieces:
        print(printable(piece) if is_terminal else piece, end="", flush=True)
    print()
