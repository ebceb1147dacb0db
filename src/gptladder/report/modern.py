"""The page on the ladder from nanoGPT to Llama: three tables of runs over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from textwrap import wrap

from gptladder.report.aggregate import Row
from gptladder.report.columns import COLUMNS, table_notes
from gptladder.report.tables import markdown_lines

LINE_LENGTH = 120
HEADINGS = ("rung", "what changed", "parameters", "seeds", "steps", "exact val loss", "vs. previous rung")


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        sweep: the experiment that trains its runs, and the name of their directory.
        difference: the heading of the last column.
    """

    sweep: str
    title: str
    text: str
    difference: str = "vs. previous rung"


SECTIONS = (
    Section(
        "modern",
        "Loss at equal steps",
        "Every rung trains for the 2,000 steps of nanoGPT's recipe.",
    ),
    Section(
        "modern_equal_time",
        "Loss at equal time",
        "Every rung trains for as many steps as fit into the time of the first one's 2,000, and its schedule ends "
        "there. `python scripts/benchmark.py --only modern` measures how many that are: steps of each rung and of "
        "the first, in turn, on one thread. They are the numbers in `conf/experiment/modern_equal_time.yaml`; "
        "another processor has others.",
    ),
    Section(
        "modern_ablation",
        "Other parts on the last rung",
        "Each row adds or changes one part of `llama`, at equal steps. Nothing was tuned: learning rates are those "
        "of `conf/optimizer`.",
        difference="to the first row",
    ),
)

INTRODUCTION = (
    "The lecture ends with a transformer of 2017 to 2019. `experiment=modern` goes on from nanoGPT's recipe for a "
    "CPU (4 layers of 128, context length 64, AdamW with decay groups, cosine schedule) and changes one part per "
    "rung, until the architecture is that of `LlamaForCausalLM`.",
    "`swiglu` has three matrices where the feed-forward had two. Its hidden width is two thirds of 4 · 128, rounded "
    "to 341, so that 3 · 128 · 341 weights replace 2 · 128 · 512: 0.1 % fewer. `gqa` has fewer parameters by design: "
    "two heads of keys and values instead of four. `llama` has more: its head no longer shares the weights of the "
    "embedding.",
)


def modern_page(rows: Mapping[str, list[Row]], note: str = "") -> str:
    """The page in Markdown.

    Args:
        rows: of each section, by the name of its sweep; a section without rows is left out.
        note: a last sentence, such as the machine and the time that the runs took.
    """
    sections = [section for section in SECTIONS if rows[section.sweep]]
    lines = ["# From nanoGPT to Llama", "", *_paragraphs(*INTRODUCTION)]
    lines += [
        "```",
        *(f"python train.py experiment={section.sweep} seed=1337,1338,1339" for section in sections),
        "```",
        "",
    ]
    for section in sections:
        lines += [f"## {section.title}", "", *_paragraphs(section.text), *_table(section, rows[section.sweep]), ""]
    notes = dict.fromkeys(each for section in sections for each in table_notes(rows[section.sweep]))
    shared = [each for each in notes if not each.startswith("p-values")]
    p_values = "p-values are corrected within each table (Holm)."
    return "\n".join([*lines, "## How to read the tables", "", *_paragraphs(*shared, p_values, note)])


def _table(section: Section, rows: list[Row]) -> list[str]:
    columns = [column for column in COLUMNS if column.heading in HEADINGS]
    headed = [replace(c, heading=section.difference) if c.heading == HEADINGS[-1] else c for c in columns]
    return markdown_lines(headed, [[column.text(row) for column in columns] for row in rows])


def _paragraphs(*texts: str) -> list[str]:
    return [line for text in texts if text for line in (*wrap(text, LINE_LENGTH), "")]
