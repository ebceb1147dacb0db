"""The exact loss of a trained run."""

import json
from pathlib import Path

from gptladder.cli.script import ArgumentParser, run_dir


def main() -> None:
    """Print loss, bits per character and perplexity on the validation split, or on another text."""
    parser = ArgumentParser(description="The exact loss of a trained run: every token predicted once.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=run_dir, help="a run directory, or latest")
    source.add_argument("--checkpoint", type=Path, help="a checkpoint file")
    parser.add_argument("--text", type=Path, help="a UTF-8 file to evaluate instead of the validation split")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()

    from gptladder.evaluation.loss import evaluate_tokens
    from gptladder.runs.checkpoint import load_trained, tokenize_file, validation_tokens
    from gptladder.runs.run import checkpoint_path

    trained = load_trained(arguments.checkpoint or checkpoint_path(arguments.run))
    data = tokenize_file(trained, arguments.text) if arguments.text is not None else validation_tokens(trained)
    metrics = evaluate_tokens(
        trained.net,
        data.tokens,
        block_size=trained.block_size,
        vocab_size=trained.tokenizer.vocab_size,
        tokens_per_char=data.tokens_per_char,
    )
    if arguments.json:
        names = {"val_loss": "loss", "val_bits_per_char": "bits_per_char", "perplexity": "perplexity"}
        print(json.dumps({**{name: metrics[key] for name, key in names.items()}, "tokens": len(data.tokens)}))
        return
    print(f"exact loss         {metrics['loss']:.4f} nats per token, over {metrics['n_predictions']:,} predictions")
    print(f"bits per character {metrics['bits_per_char']:.4f}")
    print(f"perplexity         {metrics['perplexity']:.4f} per token")
