"""Run directories: one run each, given back if nothing began."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gptladder.cli import run_directory as directory
from gptladder.cli.run_directory import check_resumable, reserve_run_dir, resume_arguments
from gptladder.runs.naming import quote_override
from gptladder.system import signals
from gptladder.system.errors import UserError
from helpers.configs import CONF


def here(path: Path) -> list[str]:
    return [f"hydra.run.dir={quote_override(str(path))}"]


def test_a_run_that_never_began_gives_back_every_directory_that_was_made(tmp_path: Path) -> None:
    with reserve_run_dir(here(tmp_path / "a" / "b" / "run"), CONF) as path:
        (path / ".hydra" / "config.yaml").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_began_keeps_its_directory(tmp_path: Path) -> None:
    with reserve_run_dir(here(tmp_path / "run"), CONF) as path:
        (path / "result.json").write_text(json.dumps({"config_hash": "abc"}))
    assert (tmp_path / "run" / ".hydra").is_dir()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with reserve_run_dir(here(run), CONF):
        pass
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_an_empty_directory_of_the_users_stays(tmp_path: Path) -> None:
    with reserve_run_dir(here(tmp_path), CONF):
        pass
    assert tmp_path.is_dir()


@pytest.mark.parametrize("held", [".hydra", "result.json"])
def test_a_directory_that_holds_a_run_is_refused(held: str, tmp_path: Path) -> None:
    (tmp_path / held).mkdir()
    with pytest.raises(UserError, match="choose another"), reserve_run_dir(here(tmp_path), CONF):
        pass
    assert (tmp_path / held).is_dir()


def test_runs_that_want_the_same_name_at_once_get_one_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        claims = list(threads.map(directory._claim_numbered, [tmp_path / "day" / "time"] * 16))
    assert len({path for path, _ in claims}) == 16


@pytest.mark.parametrize("name", ["a b", "it's", 'say "x"', "a=b,c", "back\\slash", "(x)[y]{z}", "ü"])
def test_a_directory_may_have_any_name(name: str, tmp_path: Path) -> None:
    with reserve_run_dir(here(tmp_path / name), CONF) as path:
        assert path == tmp_path / name
        assert path.is_dir()


@pytest.mark.parametrize("name", ["", "absent"])
def test_only_a_run_can_be_gone_on_with(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"resume={name} is not a run directory"):
        check_resumable(name, others=[], conf=CONF)


def test_a_run_goes_on_where_its_paths_were_meant_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, elsewhere, run = tmp_path / "started", tmp_path / "elsewhere", tmp_path / "run"
    started.mkdir()
    elsewhere.mkdir()
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("seed: 1\n")
    (run / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": str(started)}}}))
    monkeypatch.chdir(elsewhere)
    resume_arguments(check_resumable("../run", others=[], conf=CONF))
    assert Path.cwd() == started


def test_a_text_must_be_named() -> None:
    with pytest.raises(UserError, match=r"data\.path must be given"), reserve_run_dir(["data=text"], CONF):
        pass


def test_a_signal_in_the_middle_of_making_a_directory_leaves_none_whichever_thread_it_hits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = directory._claim
    other = ThreadPoolExecutor(1)
    thread = other.submit(threading.get_ident).result()  # it was there first: no mask of ours is its own

    def interrupted(path: Path) -> tuple[Path, list[Path]]:
        made = make(path)
        signal.pthread_kill(thread, signal.SIGTERM)
        time.sleep(0.01)
        return made

    monkeypatch.setattr(directory, "_claim", interrupted)
    with (
        pytest.raises(SystemExit) as ended,
        signals.exit_on_signals(),
        reserve_run_dir(here(tmp_path / "a" / "run"), CONF),
    ):
        raise AssertionError("the signal was lost")
    other.shutdown()
    assert ended.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
