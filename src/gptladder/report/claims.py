"""The claims of the lecture and its notebook, tested on runs over seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from gptladder.report.aggregate import Row, group_runs, paired_difference
from gptladder.report.columns import MINUS, format_p
from gptladder.report.load_runs import RunRecord
from gptladder.report.statistics import PairedDifference, correct_p_values
from gptladder.system.errors import UserError

SIGNIFICANCE = 0.05
LINE_LENGTH = 120

Answer = Literal["holds", "does not hold", "cannot be decided"]


@dataclass(frozen=True)
class Claim:
    """A sentence that says that one row of the table has a lower loss than another."""

    text: str
    better: str
    worse: str


CLAIMS = (
    Claim("An embedding with a linear head is better than the bigram table.", "embedding", "bigram"),
    Claim("The plain mean of the past is better than the current token alone.", "average", "embedding"),
    Claim("Attention is better than the plain mean of the past.", "singlehead", "average"),
    Claim("Attention is better than the bigram table.", "singlehead", "bigram"),
    Claim("Four heads are better than one.", "multihead", "singlehead"),
    Claim("A feed-forward after the heads helps.", "feedforward", "multihead"),
    Claim("Depth alone hurts: three blocks are worse than one.", "feedforward", "blocks"),
    Claim("Residual connections repair that.", "residual", "blocks"),
    Claim("With residual connections, three blocks are better than one.", "residual", "feedforward"),
    Claim("LayerNorm helps a little.", "layernorm", "residual"),
    Claim("Dropout hurts a model this small.", "layernorm", "dropout"),
    Claim("Dividing the scores by the square root of the head size matters.", "layernorm", "layernorm-no_scale"),
)


@dataclass(frozen=True)
class ClaimResult:
    """A claim and its test: the exact loss of the row that it calls better, minus that of the other."""

    claim: Claim
    difference: PairedDifference

    @property
    def answer(self) -> Answer:
        """``holds`` or ``does not hold`` if the corrected p-value is below 5 %."""
        p = self.difference.p_corrected
        if p is None or p >= SIGNIFICANCE:
            return "cannot be decided"
        return "holds" if self.difference.mean < 0 else "does not hold"


def evaluate_claims(runs: Iterable[RunRecord], claims: Iterable[Claim] = CLAIMS) -> list[ClaimResult]:
    """Test claims on runs; the p-values are corrected for the number of claims.

    Raises:
        UserError: a claim compares rows that the runs do not have.
    """
    rows = {row.name: row for row in group_runs(runs)}
    claims = list(claims)
    differences = correct_p_values([_difference(claim, rows) for claim in claims])
    return [ClaimResult(claim, each) for claim, each in zip(claims, differences, strict=True)]


def claims_page(results: list[ClaimResult], runs: Iterable[RunRecord], note: str = "") -> str:
    """The answers as a page in Markdown, with the commands that trained the runs."""
    commands = sorted({str(run.result["command"]) for run in runs if run.result.get("command")})
    seeds = {result.difference.n for result in results}
    n = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    introduction = (
        "Each claim says that one row of the table has a lower exact val loss than another. It is tested seed by seed "
        f"on {n} seeds: the mean difference with its 95 % confidence interval, and the p-value of Student's t-test, "
        f"corrected for the {len(results)} claims (Holm). A claim *holds* or *does not hold* if the corrected p-value "
        "is below 0.05; otherwise these seeds *cannot decide* it."
    )
    lines = [
        "# Do the lecture's claims hold?",
        "",
        *wrap(introduction, LINE_LENGTH),
        "",
        "| claim | answer | rows compared | difference | 95 % interval | p | seeds |",
        "|---|---|---|---:|---:|---:|---:|",
        *map(_line, results),
        "",
        "`scripts/claims.py` wrote this page from the runs of",
        "",
        "```console",
        *commands,
        "```",
        "",
        *([*wrap(note, LINE_LENGTH), ""] if note else []),
    ]
    return "\n".join(lines)


def _line(result: ClaimResult) -> str:
    claim, difference = result.claim, result.difference
    interval = "one seed" if difference.interval is None else "{:+.4f} to {:+.4f}".format(*difference.interval)
    numbers = f"{difference.mean:+.4f} | {interval}".replace("-", MINUS)
    p = format_p(difference.p_corrected).removeprefix("=")
    rows = f"`{claim.better}` minus `{claim.worse}`"
    return f"| {claim.text} | **{result.answer}** | {rows} | {numbers} | {p} | {difference.n} |"


def _difference(claim: Claim, rows: dict[str, Row]) -> PairedDifference:
    missing = [name for name in (claim.better, claim.worse) if name not in rows]
    if missing:
        raise UserError(f"no runs of {missing[0]}, which a claim compares: name a directory that has them")
    difference = paired_difference(rows[claim.better], rows[claim.worse])
    if difference is None:
        raise UserError(
            f"{claim.better} and {claim.worse} have no finished runs with the same seed: train both with it"
        )
    return difference
