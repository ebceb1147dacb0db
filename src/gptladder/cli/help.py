"""``python train.py --help``, drawn from the configs themselves."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from gptladder.runs.configs import first_comment, sorted_by_inheritance

EXAMPLES = {
    "python train.py model=multihead": "train one rung as it was published",
    "python train.py -m model=bigram,singlehead,multihead seed=1,2": "six runs, one directory each",
    "python train.py model=layernorm optimizer.lr=3e-4 scheduler=cosine": "change the recipe",
    "python train.py model=dropout data=text data.path=my.txt": "train on your own text",
    "python train.py data=text data.path='plays/*.txt' init_from=outputs/a-run": "finetune what another run learnt",
    "python train.py resume=outputs/2026-01-31/12-00-00-gpt": "go on with a run that was stopped",
}

KEYS = (
    "model.{n_layer,n_head,head_size,n_embd,block_size,dropout}  data.{path,batch_size,stream,split}  optimizer.lr\n"
    "trainer.{max_steps,val_check_interval}  seed  hydra.run.dir=DIR  resume=DIR  init_from=RUN"
)


def show_help(conf: Path) -> None:
    """Print what can be said to ``train.py``: the groups with their choices, the keys, five examples."""
    console = Console(highlight=False)
    console.print("[bold]gpt-ladder[/]: climb from a bigram table to a GPT on Tiny Shakespeare, one rung at a time.\n")
    console.print("python train.py [GROUP=CHOICE ...] [KEY=VALUE ...]\n", markup=False)
    for group in sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "hydra"):
        console.print(f"[bold]{group.name}=[/]")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", min_width=12)
        for choice in sorted_by_inheritance(group):
            table.add_row(f"  {choice.stem}", first_comment(choice))
        console.print(table)
    console.print(f"\n[bold]keys[/]\n{KEYS}\n\n[bold]examples[/]", markup=True)
    for command, purpose in EXAMPLES.items():
        console.print(f"  # {purpose}\n  {command}", markup=False)
    console.print("\nEvery key: python train.py model=gpt --cfg job. Sweeps: -m, and commas between values.")
