"""Export a trained run."""

from pathlib import Path

from gptladder.cli.script import ArgumentParser, run_dir

# The formats, each with the directory in the run to which it is exported.
DIRECTORIES = {"gptladder": "export", "hf": "hf"}


def main() -> None:
    """Write the files and print their path."""
    parser = ArgumentParser(
        description="Export a trained run: as safetensors and JSON, which generate and evaluate read, or as a "
        "directory that AutoModelForCausalLM and AutoTokenizer of Hugging Face's transformers load."
    )
    parser.add_argument("--run", type=run_dir, required=True, help="a run directory, or latest")
    parser.add_argument("--format", choices=DIRECTORIES, default="gptladder", help="gptladder (default) or hf")
    parser.add_argument("--out", type=Path, help="the output directory (default: export/ or hf/ in the run directory)")
    arguments = parser.parse_args()

    from gptladder.runs.checkpoint import load_trained, net_weights, read_checkpoint
    from gptladder.runs.export import export
    from gptladder.runs.hugging_face.export import export_to_hugging_face
    from gptladder.runs.run import checkpoint_path
    from gptladder.system.commands import script_command, train_command

    checkpoint = checkpoint_path(arguments.run)
    out = arguments.out or arguments.run / DIRECTORIES[arguments.format]
    trained = load_trained(checkpoint)  # refuse to export a checkpoint that does not load
    if arguments.format == "hf":
        class_name = export_to_hugging_face(trained, out)
        print(f"{out}: {class_name}; {train_command(f'init_from=hf:{out}')}")
        return
    content = read_checkpoint(checkpoint)
    path = export(content["gptladder"], net_weights(content), out)
    print(f"{path}: {script_command('generate', '--checkpoint', str(path))}")
