"""Write text with a trained run: ``python scripts/generate.py --run DIR --prompt "ROMEO:"``."""

from pathlib import Path

from gptladder.cli.main import Parser, script


def main() -> None:
    """Stream the text to stdout, and nothing else."""
    parser = Parser(description="Write text with a trained run; stdout gets the text and nothing else.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="a run directory; its last checkpoint is used")
    source.add_argument("--checkpoint", type=Path, help="a checkpoint file")
    parser.add_argument(
        "--prompt", default="", help="what to continue; empty starts from a newline, as the lecture does"
    )
    parser.add_argument("--tokens", type=int, default=500, help="how many tokens to write (default 500)")
    parser.add_argument("--samples", type=int, default=1, help="how many texts, set apart by a line of dashes")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1 is bolder, 0 is greedy (default 1)")
    parser.add_argument("--top-k", type=int, help="choose among the k likeliest tokens only")
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    parser.add_argument("--seed", type=int, default=1337, help="of the draws (default 1337)")
    arguments = parser.parse_args()

    from gptladder.generation.sampling import texts
    from gptladder.runs.checkpoint import load_trained

    trained = load_trained(arguments.checkpoint or arguments.run / "checkpoints" / "last.ckpt")
    pieces = texts(
        trained.net,
        trained.tokenizer,
        arguments.prompt,
        n_samples=arguments.samples,
        n_tokens=arguments.tokens,
        block_size=trained.block_size,
        temperature=0.0 if arguments.greedy else arguments.temperature,
        top_k=arguments.top_k,
        seed=arguments.seed,
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    script(main)
