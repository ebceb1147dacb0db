"""``scripts/gpu_checks.py``: one line without a GPU, and what it finds with a simulated one."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nanogpt
import nanogpt_gpu
import pytest
import torch

from gptladder.model.flops import training_flops_per_token
from gptladder.runs.published import published
from gptladder.system.errors import UserError
from gptladder.training.gpu_use import peak_flops
from helpers.configs import ROOT, assert_refused
from helpers.networks import build_gpt

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("gpu_checks")


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("benchmarks.gpu")


@pytest.mark.parametrize(("words", "named"), [("", "no CUDA GPU"), ("--seeds 1", "--seeds"), ("--only x", "--only")])
def test_without_a_gpu_or_with_a_wrong_option_it_says_so_in_one_line(
    words: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert_refused("gpu_checks.py", words, named=named, monkeypatch=monkeypatch, capsys=capsys)
    assert not list(tmp_path.iterdir())


def curve(shift: float, noise: float, seed: int) -> dict[str, Any]:
    """The result of a run whose curve is the published one, shifted and with noise."""
    generator = torch.Generator().manual_seed(seed)
    points = []
    for step, train, val in published()["gpt"]["curve"]:
        a, b = (noise * torch.randn(2, generator=generator)).tolist()
        points.append({"step": step, "train_estimate": train + shift + a, "val_estimate": val + shift + b})
    return {"seed": seed, "curve": points, **points[-1], "wall_seconds": 100.0}


def simulate(
    checks: ModuleType,
    timing: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    *,
    failed: int = 0,
    shift: float = 0.0,
    ms_per_step: float = 12.0,
    graph_breaks: tuple[str, ...] = (),
) -> None:
    """Let the command see an H100, on which some tests fail and the curves of ``gpt`` are shifted."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=0: H100)
    properties = SimpleNamespace(major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    each = [{"name": "test_a", "outcome": "failed", "seconds": 1.0, "message": "assert 1 == 2"}][:failed]
    tests = {"passed": 5, "failed": failed, "skipped": 0, "seconds": 2.0, "each": each}
    monkeypatch.setattr(checks, "run_tests", lambda jobs, *selection: tests)
    ours = {"ms_per_step": ms_per_step, "peak_gpu_memory_mb": 4000, "graph_breaks": graph_breaks}
    monkeypatch.setattr(timing, "time_ours", lambda *_, n_steps: ours)
    monkeypatch.setattr(timing, "time_nanogpt", lambda **_: {"ms_per_step": 16.0, "peak_gpu_memory_mb": 5000})
    monkeypatch.setattr(checks, "train_gpt", lambda seed, run_dir: curve(shift, 0.004, seed))


def run(checks: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_checks.py", *words])
    try:
        checks.main()
    except SystemExit as end:
        return int(str(end.code))
    return 0


def test_the_findings_name_the_device_the_tests_the_speed_and_the_verdict(
    checks: ModuleType,
    timing: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulate(checks, timing, monkeypatch)
    out = tmp_path / "new" / "found.json"
    assert run(checks, monkeypatch, f"--out={out}", "--seeds", "1", "2", "3") == 0
    found = json.loads(out.read_text())
    assert found["device"] == H100
    assert found["compute_capability"] == "9.0"
    assert found["versions"]["torch"] == torch.__version__
    assert found["tests"]["passed"] == found["compiled_tests"]["passed"] == 5
    assert [(row["what"], row["compiled"]) for row in found["speed"]] == [
        ("gpt", True), ("nanoGPT", True), ("gpt", False), ("nanoGPT", False)
    ]  # fmt: skip
    ours = found["speed"][0]
    assert ours["times_as_long_as_nanogpt"] == 0.75
    assert ours["tokens_per_second"] == round(64 * 256 / 0.012)
    net = build_gpt(block_size=256, n_embd=384, n_layer=6, n_head=6)
    flops, peak = training_flops_per_token(net, 256), peak_flops(H100)
    assert peak is not None
    assert ours["mfu"] == pytest.approx(flops * 64 * 256 / 0.012 / peak, abs=1e-4)
    assert found["gpt"]["verdict"] == "MATCH"
    assert [each["seed"] for each in found["gpt"]["runs"]] == [1, 2, 3]
    printed = capsys.readouterr().out
    assert "tests: 5 passed, 0 failed, 0 skipped" in printed
    assert "0.75 times as long as nanoGPT" in printed
    assert printed.splitlines()[-1] == str(out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"failed": 1}, "test_a: assert 1 == 2"),
        ({"shift": 0.1}, "DRIFT"),
        ({"ms_per_step": 16.5}, "1.031 times as long as nanoGPT"),
        ({"graph_breaks": ("a SymBool",)}, "in several pieces: a SymBool"),
    ],
)
def test_a_failed_test_a_slow_step_or_a_drift_ends_with_1(
    options: dict[str, Any],
    said: str,
    checks: ModuleType,
    timing: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulate(checks, timing, monkeypatch, **options)
    assert run(checks, monkeypatch, f"--out={tmp_path}/found.json", "--seeds", "1", "2", "3") == 1
    assert said in capsys.readouterr().out


def test_a_gpu_on_which_every_test_was_skipped_has_not_passed(checks: ModuleType) -> None:
    tests = {"passed": 0, "failed": 0, "skipped": 3, "each": []}
    assert not checks.has_passed({"tests": tests})
    assert checks.has_passed({"tests": {**tests, "passed": 1}})


def test_the_tolerance_comes_from_the_spread_of_the_seeds(checks: ModuleType) -> None:
    narrow, wide = (checks.compare_with_published([curve(0.0, noise, s) for s in (1, 2, 3)]) for noise in (0.002, 0.02))
    assert narrow["sd"]["val"] == pytest.approx(0.002, rel=0.3)
    assert wide["tolerance"]["val"] > 5 * narrow["tolerance"]["val"]
    assert narrow["verdict"] == wide["verdict"] == "MATCH"
    shifted = checks.compare_with_published([curve(0.03, 0.002, s) for s in (1, 2, 3)])
    assert [each["verdict"] for each in shifted["runs"]] == ["DRIFT"] * 3
    assert shifted["verdict"] == "DRIFT"


def test_a_run_that_did_not_finish_has_no_verdict(checks: ModuleType) -> None:
    results = [curve(0.0, 0.002, s) for s in (1, 2)]
    results[1]["curve"] = results[1]["curve"][:-1]
    with pytest.raises(UserError, match="the run with seed 2 has no estimates at step 4999"):
        checks.compare_with_published(results)


REPORT = """<testsuites><testsuite>
<testcase name="a" time="1.5"/><testcase name="b" time="0.1"><skipped message="no GPU"/></testcase>
<testcase name="c" time="2"><failure message="assert 1 == 2&#10;more">trace</failure></testcase>
<testcase name="d" time="0"><error message="boom"/></testcase></testsuite></testsuites>"""


def test_the_report_of_pytest_gives_each_outcome(checks: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    with pytest.raises(UserError, match="pytest wrote no report"):
        checks.read_report(path)
    path.write_text(REPORT)
    assert [(test["name"], test["outcome"], test.get("message")) for test in checks.read_report(path)] == [
        ("a", "passed", None), ("b", "skipped", "no GPU"), ("c", "failed", "assert 1 == 2"), ("d", "failed", "boom")
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpu_tests_are_run_and_skipped_without_a_gpu(checks: ModuleType) -> None:
    found = checks.run_tests(0, "-m", "gpu", "-k", "pinned or names or generates and bigram")
    assert (found["passed"], found["failed"], found["skipped"]) == (0, 0, 2 + 4)


def test_a_step_of_ours_and_of_nanogpt_is_timed_on_a_cpu_as_well(timing: ModuleType) -> None:
    ours = timing.time_ours("model=layernorm", "hardware=cpu", n_steps=4, n_warmup=2)
    assert 0 < ours["ms_per_step"] < 5_000
    assert ours["graph_breaks"] == []
    tokens = torch.randint(65, (1_000,))
    s = nanogpt.Settings(block_size=8, n_layer=1, n_embd=16, max_iters=5, dropout=0.2)
    theirs = nanogpt_gpu.time_steps(tokens, 65, s, n_warmup=2, compiled=False)
    assert 0 < theirs["ms_per_step"] < 5_000


def test_nanogpt_for_a_gpu_has_the_sizes_of_gpt(timing: ModuleType) -> None:
    s = nanogpt_gpu.GPU
    cfg = timing.compose_config("model=gpt")
    for key in ("n_layer", "n_head", "n_embd", "block_size", "dropout"):
        assert getattr(s, key) == cfg.model[key]
    assert s.batch_size == cfg.data.batch_size
    linears = [m.weight.numel() for m in nanogpt.Net(s, 65).modules() if isinstance(m, torch.nn.Linear)]
    assert timing.count_flops("nanogpt") == 6 * sum(linears) + 12 * s.n_layer * s.n_embd * s.block_size
