"""``--help``, composed from the configs themselves."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptladder.cli.commands import COMMANDS
from gptladder.runs.configs import first_comment, sorted_by_inheritance
from gptladder.system.commands import script_command, train_command

KEYS = {
    "seed=INT": "the seed of everything random (default 1337, the published one)",
    "fast=auto|true|false": "the fast training loop: if possible (default), or an error, or never",
    "model.{n_layer,n_head,head_size,n_embd,block_size,dropout}": "the architecture; block_size is the context length",
    "data.path=FILE": "a UTF-8 text, or a pattern such as 'plays/*.txt'; with data=text",
    "data.batch_size=INT": "windows of text per batch",
    "data.stream=published|independent|shuffled": "how batches are drawn",
    "data.split=FLOAT": "the training fraction of the text",
    "optimizer.lr=FLOAT": "the learning rate",
    "trainer.max_steps=INT": "optimizer steps",
    "trainer.val_check_interval=INT": "steps between evaluations",
    "init_from=RUN": "start from the weights and tokenizer of a run directory, checkpoint or export",
    "init_from=hf:DIR": "the same with a local GPT-2 or Llama of Hugging Face's transformers",
    "hydra.run.dir=DIR": "the directory of a single run (default outputs/RUNG/DATE_TIME)",
    "resume=DIR": "resume a stopped run from its own recorded config; trainer.max_steps=N trains it for longer",
    "sweep=NAME": "a sweep's directory, outputs/NAME (default: what is swept); the same command again resumes it",
    "fresh=true": "a sweep deletes the earlier results of its jobs",
    "plan=true": "dry run: build every job, print what each will cost, train nothing",
}

EXAMPLES = {
    "model=multihead": "train one rung as it was published",
    "-m model=bigram,singlehead,multihead seed=1,2": "six runs, one directory per run",
    "model=layernorm optimizer.lr=3e-4 scheduler=cosine": "change the recipe",
    "model=dropout data=text data.path=my.txt": "train on your own text",
    "data=text data.path=my.txt init_from=outputs/RUN": "finetune another run",
    "resume=outputs/gpt/2026-01-31_12-00-00": "resume a run that was stopped",
    "experiment=ladder": "train the whole ladder, and compare it with the published curves",
}


def print_help(conf: Path) -> None:
    """Print the groups with their choices, the keys, and examples."""
    console = Console(highlight=False, markup=False)
    console.print("gpt-ladder: from a bigram table to a GPT on Tiny Shakespeare, one rung at a time.\n")
    command = train_command()
    console.print(f"{command} [GROUP=CHOICE ...] [KEY=VALUE ...]", style="bold")
    for group in sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "hydra"):
        console.print(f"\n{group.name}=", style="bold")
        console.print(_table({choice.stem: first_comment(choice) for choice in sorted_by_inheritance(group)}))
    console.print("\nkeys", style="bold")
    for key, purpose in KEYS.items():
        console.print(f"  {key}", style="cyan")
        console.print(Padding(Text(purpose), (0, 0, 0, 6)))
    console.print("\nother commands", style="bold")
    console.print(_table({script_command(name): purpose for name, purpose in COMMANDS.items()}))
    console.print("\nexamples", style="bold")
    for words, purpose in EXAMPLES.items():
        console.print(f"  # {purpose}\n  {command} {words}", soft_wrap=True)
    console.print(f"\nAll keys of a run: {command} model=gpt --cfg job. Sweeps: -m, and commas between values.")


def _table(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", min_width=12, no_wrap=True)
    table.add_column()
    for name, purpose in rows.items():
        table.add_row(Text(f"  {name}"), Text(purpose))
    return table
