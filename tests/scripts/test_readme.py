"""Claims about the README: its table is generated, and what it names exists."""

import csv
import re
from pathlib import Path

import pytest

from helpers.configs import ROOT

README = (ROOT / "README.md").read_text()
HEADINGS = ("rung", "what changed", "parameters", "val estimate", "published", "verdict", "exact val loss")


def ladder_table() -> str:
    """The table of the README, made from ``docs/table.csv``; print it to paste it."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---:|---:|---:|---|---:|"]
    with (ROOT / "docs" / "table.csv").open() as file:
        for row in csv.DictReader(file):
            exact = f"{float(row['val_loss']):.4f}"
            if not row["seeds"]:  # the n-gram model
                cells = (row["label"], row["description"], "—", "—", "—", "—", exact)
                lines.append("| " + " | ".join(cells) + " |")
                continue
            estimate = f"{float(row['val_estimate']):.4f} ± {float(row['val_estimate_std']):.4f}"
            exact += f" ± {float(row['val_loss_ci_high']) - float(row['val_loss']):.4f}"
            published = f"{float(row['published_val']):.4f}" if row["published_val"] else "—"
            verdict = row["status"] if row["published_val"] else "—"
            params = f"{float(row['params']):,.0f}"
            cells = (row["label"], row["description"], params, estimate, published, verdict, exact)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_ladder_table_is_the_generated_one() -> None:
    assert ladder_table() in README


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:\]\(|`)((?:docs|src|tests|scripts|conf)/[\w./-]+)", README)))
)
def test_every_file_that_the_readme_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", README))))
def test_every_test_that_the_readme_names_exists(name: str) -> None:
    assert any(f"def {name}(" in path.read_text() for path in Path(ROOT / "tests").rglob("test_*.py"))
