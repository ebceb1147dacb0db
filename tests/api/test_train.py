"""``gptladder.train`` and ``compose``: what the command does, as functions that leave the process as it was."""

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch.optim import AdamW

import gptladder
from gptladder.fast.adamw import FusedAdamWStep
from gptladder.runs.configs import CONF
from helpers import configs
from helpers.configs import command
from helpers.runs import Killed, assert_same_run, bits, contents, killed_at, read, small

TINY = ("model=bigram", "trainer.max_steps=2", "data.estimate_batches=2", "callbacks.samples.n_tokens=3", "logger=none")


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def signaled_at(step: int, number: signal.Signals) -> Iterator[None]:
    """Send a signal to this process in the body after ``step`` optimizer steps."""
    taken, step_adamw = count(), AdamW.step

    def signaled_step(self: AdamW, *arguments: Any, **options: Any) -> Any:
        if next(taken) == step:
            signal.raise_signal(number)
        return step_adamw(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "step", signaled_step)
        patch.setattr(FusedAdamWStep, "supports", lambda optimizer: False)
        yield


def test_import_gptladder_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import gptladder; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert "gptladder" in imported
    assert imported - sys.stdlib_module_names == {"gptladder"}


@pytest.mark.parametrize("name", gptladder.__all__)
def test_every_name_of_the_library_is_there(name: str) -> None:
    assert name in dir(gptladder)
    assert callable(getattr(gptladder, name))
    assert getattr(gptladder, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gptladder' has no attribute 'trian'"):
        _ = gptladder.trian


def test_compose_gives_the_config_of_the_command(tmp_path: Path) -> None:
    cfg = gptladder.compose("model=multihead", "trainer.max_steps=7", "hydra.run.dir='a b'")
    expected = configs.composed("model=multihead", "trainer.max_steps=7", f"run_dir='{tmp_path}/a b'")
    assert OmegaConf.to_container(cfg, resolve=True) == OmegaConf.to_container(expected, resolve=True)
    assert contents(tmp_path) == {}


def test_compose_needs_no_torch() -> None:
    code = "import sys, gptladder; gptladder.compose('model=gpt'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("call", [gptladder.compose, gptladder.train])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=multihed"], "model=multihed does not exist: did you mean multihead?"),
        (["trainer.max_step=3"], "trainer.max_step is not a key of the config: did you mean trainer.max_steps?"),
        (["seed=abc"], "seed=abc must be an integer"),
        (["optimizer.lr=-1"], "optimizer.lr=-1 must be a number above 0"),
        (["model.rotary=true"], "model.rotary was renamed: use model.rope"),
        (["seed=1,2"], "seed=1,2 has several values: call train once for each"),
        (["model=bigram,gpt"], "model=bigram,gpt has several values"),
        (["experiment=ladder"], "experiment=ladder is a sweep of several runs: start it with python train.py"),
        (["-m", "seed=1"], "-m seed=1 is a sweep of several runs"),
        (["--cfg", "job"], "--cfg job trains nothing"),
        (["--colour"], "--colour"),
        ([{"model": "gpt"}], "{'model': 'gpt'} is not an override"),
        ([3], "3 is not an override"),
        (["hydra.run.dir="], "hydra.run.dir= is empty"),
        (["fresh=true"], "fresh=true"),
    ],
    ids=str,
)
def test_a_mistake_is_a_user_error_with_the_remedy(call: Any, words: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(gptladder.UserError) as error:
        call(*words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=text", "data.path=absent.txt"], "data.path=absent.txt cannot be read"),
        (["model=multihead", "model.n_head=3", "model.head_size=null"], "model"),
        (["hardware=ddp_cpu"], "2 processes would each run this program again"),
        (["resume=nowhere"], "resume=nowhere is not a run directory"),
        (["resume=nowhere", "seed=1"], "resume=nowhere is not a run directory"),
    ],
    ids=" ".join,
)
def test_a_mistake_that_the_run_finds_leaves_no_directory(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(gptladder.UserError, match=message):
        gptladder.train(*words)
    assert contents(tmp_path) == {}


def test_a_call_trains_the_same_bits_as_the_command(tmp_path: Path) -> None:
    words = small(tmp_path)
    assert command("train.py", *words, "hydra.run.dir=command", cwd=tmp_path).returncode == 0
    run = gptladder.train(*words, "hydra.run.dir=call")
    assert run.path == tmp_path / "call"
    assert_same_run(run.path, tmp_path / "command")
    assert run.result["command"].startswith("gptladder.train('model=dropout', 'data=text', ")
    assert (run.path / "train.log").read_text().count("exact val") == 4


def test_two_calls_train_two_runs_and_a_failure_between_them_changes_nothing(tmp_path: Path) -> None:
    first = gptladder.train(*TINY)
    with killed_at(0, RuntimeError("broken")):
        gptladder.train(*TINY, "model=embedding")
    (failed,) = tmp_path.glob("outputs/embedding/*")
    assert gptladder.Run(failed).result["status"] == "failed"
    second = gptladder.train(*TINY)
    assert first.path != second.path
    assert first.path.parent == second.path.parent == tmp_path / "outputs" / "bigram"
    assert_same = {key: first.result[key] for key in ("curve", "sample", "config_hash", "status")}
    assert assert_same == {key: second.result[key] for key in assert_same}


def test_a_thread_trains_too() -> None:
    runs: list[gptladder.Run] = []
    thread = threading.Thread(target=lambda: runs.append(gptladder.train(*TINY)))
    thread.start()
    thread.join()
    assert runs[0].result["curve"] == gptladder.train(*TINY).result["curve"]


def test_a_second_training_at_the_same_time_is_refused(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def start_another() -> None:
        try:
            gptladder.train(*TINY)
        except BaseException as error:
            errors.append(error)

    step_adamw = AdamW.step

    def step(self: AdamW, *arguments: Any, **options: Any) -> Any:
        thread = threading.Thread(target=start_another)
        thread.start()
        thread.join()
        return step_adamw(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "step", step)
        patch.setattr(FusedAdamWStep, "supports", lambda optimizer: False)
        gptladder.train(*TINY)
    assert len(errors) == 2
    assert all("another run trains in this process" in str(error) for error in errors)
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1


def test_a_training_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    def state() -> dict[str, Any]:
        return {
            "random": torch.get_rng_state().tolist(),
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "directory": Path.cwd(),
            "environment": dict(os.environ),
            "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            "warnings": list(warnings.filters),
            "arguments": list(sys.argv),
            "streams": (sys.stdout, sys.stderr),
            "hydra": GlobalHydra.instance().is_initialized(),
        }

    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = state()
        gptladder.train(*TINY, "+trainer.deterministic=true")
        assert state() == before
    finally:
        torch.set_num_threads(n_threads)


def test_a_program_with_a_hydra_of_its_own_can_train() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        gptladder.train(*TINY)
        assert compose("train", ["model=gpt"]).rung == "gpt"


@pytest.mark.parametrize("step", [1, 5])
def test_an_interrupted_call_leaves_a_run_that_a_call_resumes(
    step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path)
    whole = gptladder.train(*words, "hydra.run.dir=whole")
    handler = signal.getsignal(signal.SIGINT)
    capsys.readouterr()
    with signaled_at(step, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        gptladder.train(*words, "hydra.run.dir='a run'")
    assert signal.getsignal(signal.SIGINT) is handler
    path = tmp_path / "a run"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"stopped at step {bits(path)['/global_step']:,}; resume with: gptladder.train(resume='a run')"
    assert read(path)["status"] == "interrupted"
    assert_same_run(gptladder.train(resume="a run").path, whole.path)


def test_a_call_that_is_interrupted_before_its_first_step_is_a_keyboard_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptladder.training.train.build_module", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        gptladder.train(*TINY)
    assert contents(tmp_path) == {}


def test_a_termination_reaches_the_handler_of_the_program(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with signaled_at(5, signal.SIGTERM), pytest.raises(KeyboardInterrupt):
            gptladder.train(*small(tmp_path), "hydra.run.dir=run")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert gptladder.train(resume=tmp_path / "run").result["status"] == "finished"


def test_a_killed_run_is_interrupted_and_resumes(tmp_path: Path) -> None:
    with killed_at(5, Killed()):
        gptladder.train(*small(tmp_path), "hydra.run.dir=run")
    assert gptladder.Run("run").result["status"] == "interrupted"
    assert gptladder.train("resume=run").result["status"] == "finished"


def test_a_finished_run_stays_as_it_is_unless_more_steps_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    run = gptladder.train(*TINY)
    before = contents(run.path)
    assert gptladder.train(resume=run.path) == run
    assert contents(run.path) == before
    assert "is already finished" in capsys.readouterr().out
    assert gptladder.train("trainer.max_steps=3", resume=run.path).result["step"] == 3
    with pytest.raises(gptladder.UserError, match="leave out seed=2"):
        gptladder.train("seed=2", resume=run.path)


def test_a_config_directory_of_ones_own_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wide.yaml").write_text("defaults: [multihead]\nn_embd: 48\n")
    assert gptladder.compose("--config-dir", "mine", "model=wide").model.n_embd == 48
    run = gptladder.train("hydra.searchpath=[file://mine]", *TINY, "model=wide")
    assert run.result["params"] > 7553
    assert json.loads((run.path / "result.json").read_text()) == run.result


def test_a_run_with_a_class_of_ones_own_resumes_with_the_config_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "mine" / "callbacks").mkdir(parents=True)
    words = ("+callbacks.timer._target_=lightning.pytorch.callbacks.Timer", "hydra.run.dir=run")
    gptladder.train(*TINY, *words)
    longer = ("--config-dir", "mine", "trainer.max_steps=3")
    for given in (longer[2:], longer):
        with pytest.raises(gptladder.UserError, match=r"refusing to instantiate .*Timer from"):
            gptladder.train(*given, resume="run")
    (tmp_path / "mine" / "callbacks" / "timer.yaml").write_text(
        "timer:\n  _target_: lightning.pytorch.callbacks.Timer\n"
    )
    assert gptladder.train(*longer, resume="run").result["step"] == 3
    for wrong in (("--config-dir", "absent"), ("--config-dir=",), ("-cd",)):
        with pytest.raises(gptladder.UserError, match=r"--config-dir .*is not a directory"):
            gptladder.train(*wrong, resume="run")
