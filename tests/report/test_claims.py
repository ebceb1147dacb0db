"""The lecture's claims, tested on runs."""

from pathlib import Path

import pytest

from gptladder.report.claims import CLAIMS, Claim, claims_page, evaluate_claims
from gptladder.report.columns import MINUS
from gptladder.report.load_runs import load_runs
from gptladder.runs.published import published
from gptladder.system.errors import UserError
from helpers.processes import warm_command
from helpers.results import run

CLAIM = Claim("LayerNorm helps.", "layernorm", "residual")


def write_runs(directory: Path, *losses: tuple[float, float]) -> None:
    """Runs of ``residual`` and ``layernorm`` with these losses, for one seed each."""
    for seed, (residual, layernorm) in enumerate(losses):
        run(directory, "residual", seed=seed, val_loss=residual)
        run(directory, "layernorm", seed=seed, val_loss=layernorm)


@pytest.mark.parametrize(
    ("losses", "answer"),
    [
        ([(2.1, 2.0), (2.2, 2.09), (2.0, 1.91)], "holds"),
        ([(2.0, 2.1), (2.09, 2.2), (1.91, 2.0)], "does not hold"),
        ([(2.1, 2.0), (2.0, 2.1), (2.0, 2.05)], "cannot be decided"),
        ([(2.1, 2.0)], "cannot be decided"),
    ],
)
def test_a_claim_holds_only_if_its_seeds_decide_it(
    losses: list[tuple[float, float]], answer: str, tmp_path: Path
) -> None:
    write_runs(tmp_path, *losses)
    (result,) = evaluate_claims(load_runs(tmp_path), [CLAIM])
    assert result.answer == answer


def test_more_claims_need_stronger_evidence(tmp_path: Path) -> None:
    write_runs(tmp_path, (2.1, 2.0), (2.2, 2.09), (2.0, 1.95))
    claims = [CLAIM, Claim("The contrary.", "residual", "layernorm")]
    alone, (first, _) = evaluate_claims(load_runs(tmp_path), [CLAIM])[0], evaluate_claims(load_runs(tmp_path), claims)
    assert alone.difference.p_corrected is not None
    assert first.difference.p_corrected == pytest.approx(2 * alone.difference.p_corrected)


def test_a_claim_without_runs_is_a_user_error(tmp_path: Path) -> None:
    write_runs(tmp_path, (2.1, 2.0))
    with pytest.raises(UserError, match="no runs of blocks"):
        evaluate_claims(load_runs(tmp_path), [Claim("Depth.", "layernorm", "blocks")])


def test_the_page_answers_every_claim_with_interval_and_command(tmp_path: Path) -> None:
    write_runs(tmp_path, (2.1, 2.0), (2.2, 2.09), (2.0, 1.91))
    runs = load_runs(tmp_path)
    for record in runs:
        record.result["command"] = "python train.py experiment=ladder"
    page = claims_page(evaluate_claims(runs, [CLAIM]), runs, "In 12 minutes.")
    numbers = f"{MINUS}0.1000 | {MINUS}0.1248 to {MINUS}0.0752 | 0.003 | 3"
    assert f"| LayerNorm helps. | **holds** | `layernorm` minus `residual` | {numbers} |" in page
    assert page.count("python train.py experiment=ladder") == 1
    assert "In 12 minutes." in page


def test_the_script_answers_the_lectures_claims(tmp_path: Path) -> None:
    for seed in (1, 2):
        for rung in ("average", "dropout", *(rung for rung in published() if rung != "gpt")):
            run(tmp_path / "runs", rung if rung in published() else "bigram", seed=seed, name=rung)
        path = run(tmp_path / "more", "layernorm", seed=seed, config_hash=f"no_scale{seed}")
        (path / ".hydra/overrides.yaml").write_text(f"- model=layernorm\n- ablation=no_scale\n- seed={seed}\n")
    done = warm_command("scripts/claims.py", "runs", "more", "--out", "docs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "docs/claims.md"
    page = (tmp_path / "docs" / "claims.md").read_text()
    assert all(claim.text in page for claim in CLAIMS)
    missing = warm_command("scripts/claims.py", "runs", "--out", "docs", cwd=tmp_path)
    assert missing.returncode == 2
    assert "no runs of layernorm-no_scale" in missing.stderr
