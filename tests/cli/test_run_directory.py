"""Run directories: one run each, and removed again if the run never started."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gptladder.cli import run_directory
from gptladder.cli.command_line import CommandLine
from gptladder.cli.resume import check_resumable, resume_arguments
from gptladder.cli.run_directory import reserve_run_dir
from gptladder.runs.naming import quote_override
from gptladder.system import signals
from gptladder.system.errors import UserError
from helpers.configs import CONF, trained


def run_dir(path: Path) -> list[str]:
    return [f"hydra.run.dir={quote_override(str(path))}"]


def test_a_run_that_never_started_leaves_no_directory(tmp_path: Path) -> None:
    with reserve_run_dir(CommandLine(run_dir(tmp_path / "a" / "b" / "run"), CONF)) as path:
        (path / ".hydra" / "config.yaml").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_started_keeps_its_directory(tmp_path: Path) -> None:
    with reserve_run_dir(CommandLine(run_dir(tmp_path / "run"), CONF)) as path:
        (path / "result.json").write_text(json.dumps({"config_hash": "abc"}))
    assert (tmp_path / "run" / ".hydra").is_dir()


def test_files_that_existed_before_stay(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with reserve_run_dir(CommandLine(run_dir(run), CONF)):
        pass
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_an_empty_directory_that_existed_before_stays(tmp_path: Path) -> None:
    with reserve_run_dir(CommandLine(run_dir(tmp_path), CONF)):
        pass
    assert tmp_path.is_dir()


@pytest.mark.parametrize("content", [".hydra", "result.json"])
def test_a_directory_that_holds_a_run_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / content).mkdir()
    with pytest.raises(UserError, match="choose another"), reserve_run_dir(CommandLine(run_dir(tmp_path), CONF)):
        pass
    assert (tmp_path / content).is_dir()


def test_concurrent_runs_with_the_same_name_get_different_directories(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        reserved = list(threads.map(run_directory._reserve_numbered, [tmp_path / "day" / "time"] * 16))
    assert len({path for path, _ in reserved}) == 16


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "a=b,c", "back\\slash", "(x)[y]{z}", "ü"])
def test_a_directory_may_have_any_name(name: str, tmp_path: Path) -> None:
    with reserve_run_dir(CommandLine(run_dir(tmp_path / name), CONF)) as path:
        assert path == tmp_path / name
        assert path.is_dir()


@pytest.mark.parametrize("name", ["", "absent"])
def test_only_a_run_directory_can_be_resumed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"resume={name} is not a run directory"):
        check_resumable(name, refused=[], conf=CONF)


def test_a_resumed_run_uses_its_original_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, elsewhere, run = tmp_path / "started", tmp_path / "elsewhere", tmp_path / "run"
    started.mkdir()
    elsewhere.mkdir()
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("seed: 1\n")
    (run / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": str(started)}}}))
    monkeypatch.chdir(elsewhere)
    resume_arguments(check_resumable("../run", refused=[], conf=CONF))
    assert Path.cwd() == started


def test_data_text_needs_a_path() -> None:
    with pytest.raises(UserError, match=r"data\.path must be given"), reserve_run_dir(CommandLine(["data=text"], CONF)):
        pass


def test_a_signal_while_a_directory_is_created_leaves_none_whichever_thread_receives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = run_directory._reserve
    other = ThreadPoolExecutor(1)
    thread = other.submit(
        threading.get_ident
    ).result()  # it started first, so that a signal mask of the main thread would not apply to it

    def interrupted(path: Path) -> tuple[Path, list[Path]]:
        reserved = reserve(path)
        signal.pthread_kill(thread, signal.SIGTERM)
        time.sleep(0.01)
        return reserved

    monkeypatch.setattr(run_directory, "_reserve", interrupted)
    with (
        pytest.raises(SystemExit) as ended,
        signals.exit_on_signals(),
        reserve_run_dir(CommandLine(run_dir(tmp_path / "a" / "run"), CONF)),
    ):
        raise AssertionError("the signal was lost")
    other.shutdown()
    assert ended.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_init_from_brings_the_rung_and_the_tokenizer_of_that_run(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    few = ("trainer.max_steps=1", "data.estimate_batches=1", "callbacks.samples=null", "logger=none")
    trained(run, "model=multihead", "model.n_head=2", "model.activation=gelu", *few)
    for source in (run, run / "checkpoints" / "last.ckpt"):
        line = CommandLine([f"init_from='{source}'", "seed=3"], CONF)
        cfg = line.compose()
        assert (cfg.rung, cfg.model.n_head, cfg.model.activation) == ("multihead", 2, "gelu")
        assert (cfg.optimizer.lr, cfg.seed) == (1e-3, 3)
    own = CommandLine([f"init_from='{run}'", "model.dropout=0.5"], CONF).compose()
    assert (own.rung, own.model.dropout, own.model.n_head) == ("multihead", 0.5, 2)
    other = CommandLine([f"init_from='{run}'", "model=layernorm"], CONF).compose()
    assert (other.rung, other.model.n_head) == ("layernorm", 4)
    assert CommandLine(["init_from=nowhere"], CONF).compose().rung == "bigram"
