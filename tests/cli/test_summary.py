"""The summary at the end of a run: complete, literal, and aligned at every width."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from gptladder.cli.summary import summary_panel

RESULT: dict[str, Any] = {
    "model": "multihead",
    "params": 7553,
    "step": 4999,
    "tokens": 1279744,
    "tokens_per_second": 140631,
    "train_estimate": 2.244,
    "val_estimate": 2.2609,
    "val_loss": 2.25,
    "val_bits_per_char": 3.246,
    "best": {"step": 4800, "val_loss": 2.2401},
    "train_seconds": 9.1,
    "wall_seconds": 14.2,
    "published": {"step": 4999, "train": 2.244, "val": 2.2609, "verdict": "MATCH", "max_abs_diff": 0.0},
    "sample": "\nFirst line.\n  Second line.\n",
}


def shown(width: int = 80, *, terminal: bool = False, path: Path = Path("outputs/run"), **changes: Any) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system="standard" if terminal else "auto")
    console.print(summary_panel({**RESULT, **changes}, path))
    return file.getvalue()


def test_the_panel_shows_every_number() -> None:
    text = shown()
    for number in (
        "7,553",
        "4,999",
        "1,279,744",
        "140,631 tokens/s",
        "2.2440",
        "2.2609",
        "2.2500",
        "3.2460 bits per character",
        "2.2401",
        "14.2 s total",
    ):
        assert number in text


def test_the_panel_of_a_memorized_text_says_which_loss_is_on_it() -> None:
    lines = shown(overfit={"windows": 4, "train_loss": 0.0004}).splitlines()
    (number,) = (i for i, line in enumerate(lines) if "loss 0.0004 on 4 windows; below, on other text" in line)
    assert "2.2440" in lines[number + 1]


@pytest.mark.parametrize("verdict", ["MATCH", "DRIFT"])
def test_the_panel_shows_the_verdict(verdict: str) -> None:
    text = shown(published={**RESULT["published"], "verdict": verdict, "max_abs_diff": 0.0123})
    assert f"{verdict}   largest difference 0.0123" in text
    assert "at step" not in text.split("published")[1].splitlines()[0]


def test_the_panel_names_the_worst_point_and_what_rounding_explains_there() -> None:
    worst = {"max_abs_diff": 0.0246, "worst_abs_diff": 0.0246, "worst_step": 3200, "worst_split": "val"}
    text = shown(published={**RESULT["published"], **worst, "tolerance": 0.0781})
    assert "MATCH   largest difference 0.0246" in text
    assert "rounding explains up to 0.0781 there (val, step 3,200)" in text


def test_a_run_that_ended_early_matches_so_far() -> None:
    text = shown(published={**RESULT["published"], "step": 600, "last_step": 4999, "verdict": "matches so far"})
    assert "matches so far (step 600 of 4,999)" in text
    assert "largest difference 0.0000" in text


def test_a_published_value_of_an_earlier_step_names_the_step() -> None:
    assert "val 2.2609   at step 2,999" in shown(published={**RESULT["published"], "step": 2999})


def test_an_unpublished_config_has_no_verdict() -> None:
    text = shown(published=None)
    assert "not published for this config" in text
    assert "MATCH" not in text
    assert "DRIFT" not in text


def test_markup_in_a_sample_is_shown_literally() -> None:
    assert "KING [bold]RICHARD[/]: [/] [red" in shown(sample="KING [bold]RICHARD[/]: [/] [red")


def test_a_sample_keeps_its_lines_and_indentation() -> None:
    lines = [line.strip("│ \n") for line in shown().splitlines()]
    assert lines[lines.index("First line.") + 1] == "Second line."
    assert "│    Second line." in shown()


def test_what_continues_a_long_line_is_no_line_of_its_own() -> None:
    words = "to gor gre delay soporvere nowil this frors theresanm; shat is gple and one more line of the verse"
    lines = [line.strip("│").rstrip() for line in shown(sample=f"Fird:\n{words}\nINUMENO:").splitlines()]
    first = lines.index("  Fird:") + 1
    assert lines[first + 1].startswith("  ↳ ")
    assert f"{lines[first].strip()} {lines[first + 1].strip('↳ ')}" == words
    assert lines[first + 2] == "  INUMENO:"


@pytest.mark.parametrize("sample", ["你好世界" * 40, "日本語 テスト", "caffè — “naïve”"])
def test_wide_characters_stay_in_the_frame(sample: str) -> None:
    lines = shown(sample=sample).splitlines()
    assert {cell_len(line) for line in lines} == {80}
    assert "".join(re.findall(r"\w", sample)) in "".join(re.findall(r"\w", "".join(lines[1:])))


@pytest.mark.parametrize("sample", ["שלום עולם", "مرحبا بالعالم", "e\u0301 e\u0301"])
def test_a_sample_of_uncertain_width_is_below_the_frame(sample: str) -> None:
    lines = shown(sample=f"a\n{sample}").splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("╰"))
    assert {cell_len(line) for line in lines[: end + 1]} == {80}
    assert [line.rstrip() for line in lines[end + 1 :]] == ["a", sample]


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("step", [4999, 2999])
def test_no_row_breaks_at_usual_widths(width: int, step: int) -> None:
    lines = shown(width, published={**RESULT["published"], "step": step}).splitlines()
    assert {len(line) for line in lines} == {min(width, 100)}
    rows = [line.strip("│ ") for line in lines[2:10]]
    assert [line.split("  ")[0] for line in rows] == [
        "parameters",
        "steps",
        "estimate",
        "published",
        "MATCH",
        "exact val loss",
        "best",
        "time",
    ]


def test_output_to_a_pipe_has_no_colors() -> None:
    assert "\x1b" in shown(terminal=True)
    assert "\x1b" not in shown()


def test_the_tensorboard_command_is_quoted_and_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tensorboard --logdir outputs/run " in shown(path=tmp_path / "outputs/run")
    assert "tensorboard --logdir 'outputs/a run' " in shown(path=tmp_path / "outputs/a run")
    assert "tensorboard --logdir /elsewhere/run " in shown(path=Path("/elsewhere/run"))


def test_the_panel_shows_a_gpu_and_how_well_it_was_used() -> None:
    assert "NVIDIA L4   31.4 % of its peak (MFU)" in shown(device="NVIDIA L4", mfu=0.3142)
    assert "device" in shown(device="NVIDIA Unknown")
    for text in (shown(device="NVIDIA Unknown"), shown()):
        assert "MFU" not in text
    assert "device" not in shown()
