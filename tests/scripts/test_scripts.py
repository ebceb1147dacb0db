"""``scripts/generate.py`` and ``scripts/evaluate.py``: their output, and one line for a user error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gptladder.cli.script import run_dir
from gptladder.system.errors import UserError
from helpers.configs import ROOT, assert_refused, ran

pytestmark = pytest.mark.xdist_group("finished_run")  # one process makes the run for all of them


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("generate.py", "--run"),
        ("generate.py --run RUN --tokens many", "--tokens"),
        ("generate.py --run RUN --tokens -1", "tokens=-1"),
        ("generate.py --run RUN --samples 0", "samples=0"),
        ("generate.py --run RUN --temperature -1", "temperature=-1.0"),
        ("generate.py --run RUN --temperature nan", "temperature=nan"),
        ("generate.py --run RUN --top-k 0", "top_k=0"),
        ("generate.py --run RUN --seed -1", "seed=-1"),
        ("generate.py --run RUN --top-p 0", "top_p=0.0"),
        ("generate.py --run RUN --top-p 1.5", "top_p=1.5"),
        ("generate.py --run RUN --prompt-file absent.txt", "--prompt-file=absent.txt"),
        ("generate.py --run RUN --prompt né", "character 'é' at position 1"),
        ("generate.py --run .", "there is no checkpoint checkpoints/last.ckpt"),
        ("generate.py --checkpoint absent.ckpt", "absent.ckpt"),
        ("generate.py --checkpoint text.txt", "text.txt"),
        ("evaluate.py --run .", "there is no checkpoint checkpoints/last.ckpt"),
        ("evaluate.py --run RUN --text absent.txt", "--text=absent.txt"),
        ("evaluate.py --run RUN --text empty.txt", "--text=empty.txt is empty"),
        ("evaluate.py --run RUN --text letter.txt", "the text has 1 token; at least 2 are needed"),
        ("evaluate.py --run RUN --text text.txt", "character 'é' at position 1"),
    ],
)
def test_a_user_error_is_one_line_on_stderr(
    arguments: str,
    named: str,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"text.txt": "né", "empty.txt": "", "letter.txt": "a"}.items():
        Path(name).write_text(text)
    name, _, arguments = arguments.replace("RUN", str(finished_run)).partition(" ")
    assert_refused(name, arguments, named=named, monkeypatch=monkeypatch, capsys=capsys)


def test_generate_prints_the_text_and_nothing_else(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("generate.py", "--run", str(finished_run), "--prompt", "ROMEO:", "--tokens", "30", monkeypatch=monkeypatch)
    printed = capsys.readouterr()
    assert printed.out.startswith("ROMEO:")
    assert len(printed.out) == len("ROMEO:") + 30 + len("\n")
    assert printed.err == ""


def test_generate_ends_quietly_when_its_pipe_is_closed(finished_run: Path) -> None:
    arguments = [
        sys.executable,
        str(ROOT / "scripts" / "generate.py"),
        "--run",
        str(finished_run),
        "--tokens",
        "1000000",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_evaluate_gives_the_exact_loss_that_training_recorded(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("evaluate.py", "--run", str(finished_run), "--json", monkeypatch=monkeypatch)
    metrics = json.loads(capsys.readouterr().out)
    result = json.loads((finished_run / "result.json").read_text())
    assert metrics["val_loss"] == pytest.approx(result["val_loss"], abs=1e-6)
    assert metrics["val_bits_per_char"] == pytest.approx(result["val_bits_per_char"], abs=1e-6)


def test_evaluate_accepts_another_text(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("shall")  # shorter than the context
    ran("evaluate.py", "--run", str(finished_run), "--text", str(tmp_path / "text.txt"), monkeypatch=monkeypatch)
    assert "over 4 predictions" in capsys.readouterr().out


def test_the_latest_run_is_the_one_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no run with a checkpoint below outputs/"):
        run_dir("latest")
    runs = [
        (30, "bigram/a", "bigram/a"),
        (10, "sweep/b", "sweep/b"),
        (20, "bigram/c", "sweep/b"),
        (5, "first", "first"),
    ]
    for age, name, latest in runs:
        checkpoint = tmp_path / "outputs" / name / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        os.utime(checkpoint, (1000 - age, 1000 - age))
        assert run_dir("latest") == Path("outputs", latest)
    linked = tmp_path / "elsewhere" / "d" / "checkpoints" / "last.ckpt"
    linked.parent.mkdir(parents=True)
    linked.touch()
    (tmp_path / "outputs" / "link").symlink_to(tmp_path / "elsewhere")
    assert run_dir("latest") == Path("outputs/link/d")
    assert run_dir("x/y") == Path("x/y")
