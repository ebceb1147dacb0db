"""The fast path gives the same numbers as the plain one, and either resumes the other's runs.

Equal means bit for bit, except for rungs with softmax attention over up to 16 tokens in fp32 and fp64: Numba sums in
another order there, and after ten steps losses agree to about 1e-6.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.runs.run import Run
from helpers.configs import RUNGS, trained
from helpers.marks import slow
from helpers.processes import Warm
from helpers.runs import bits, killed_at, same_bits

SMALL_RUNGS = [rung for rung in RUNGS if rung != "gpt"]
QUICK_RUNGS = ["bigram", "embedding", "average", "multihead", "dropout", "llama"]
# These have no softmax attention.
EQUAL_RUNGS = {"bigram", "embedding", "average"}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(tiny_shakespeare()[:20_000])
    return [
        "data=text",
        f"data.path={path}",
        "data.batch_size=4",
        "data.estimate_batches=3",
        "callbacks.samples.n_tokens=3",
        "callbacks.progress=null",
        "scheduler=constant",  # the warmup of the modern rungs is longer than this training
        "trainer.max_steps=23",
        "trainer.val_check_interval=10",
        "trainer.log_every_n_steps=5",
    ]


def both_paths(directory: Path, *overrides: str) -> tuple[Path, Path]:
    """The same training on both paths."""
    for fast in ("true", "false"):
        result = trained(directory / fast, f"fast={fast}", *overrides)
        assert result["path"] == {"true": "fast", "false": "plain"}[fast]
    return directory / "true", directory / "false"


def assert_equal_bits(fast: Path, plain: Path) -> None:
    """Both runs have the same checkpoint, counters included, and the same logs."""
    assert same_bits(bits(fast), bits(plain))
    assert loops(fast) == loops(plain)
    assert (fast / "metrics.csv").read_text() == (plain / "metrics.csv").read_text()


def loops(run: Path) -> Any:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["loops"]


def assert_close(fast: Path, plain: Path) -> None:
    """Both runs have the same random numbers and counters, and weights and losses that agree to rounding."""
    assert loops(fast) == loops(plain)
    one, other = bits(fast), bits(plain)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if "random" in name or "step" in name:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])), name
    for ours, theirs in zip(Run.read(fast)["curve"], Run.read(plain)["curve"], strict=True):
        for key, value in ours.items():
            assert value == pytest.approx(theirs[key], abs=2e-5), key


@pytest.mark.parametrize("rung", [*QUICK_RUNGS, *slow(rung for rung in SMALL_RUNGS if rung not in QUICK_RUNGS)])
def test_every_rung_gives_the_same_numbers_on_both_paths(rung: str, options: list[str], tmp_path: Path) -> None:
    fast, plain = both_paths(tmp_path, f"model={rung}", *options)
    (assert_equal_bits if rung in EQUAL_RUNGS else assert_close)(fast, plain)


# With a context of 17 tokens both paths use the same attention, so that all bits must agree.
LONG = ("model=dropout", "model.block_size=17", "model.n_layer=1")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("trainer.accumulate_grad_batches=3",),
        ("trainer.gradient_clip_val=0.1",),
        ("data.stream=independent",),
        ("data.stream=shuffled", "trainer.accumulate_grad_batches=2"),
        ("scheduler=cosine", "scheduler.warmup_steps=5"),
        ("optimizer=muon", "scheduler=linear"),
        ("optimizer=adamw_matrices",),
        ("hardware.precision=bf16-mixed",),
        ("hardware.precision=64-true",),
        ("hardware.precision=bf16-mixed", "trainer.gradient_clip_val=0.1"),
        ("model.dropout=0", "+data.sequence_length_warmup={1: 7}"),
        ("trainer.val_check_interval=1",),
        ("trainer.log_every_n_steps=1",),
        ("evaluate_first=false",),
        (
            "+callbacks.often._target_=lightning.pytorch.callbacks.ModelCheckpoint",
            "+callbacks.often.every_n_train_steps=7",
        ),
    ],
    ids=lambda overrides: " ".join(overrides) or "dropout",
)
def test_every_option_gives_the_same_bits_on_both_paths(
    overrides: tuple[str, ...], options: list[str], tmp_path: Path
) -> None:
    assert_equal_bits(*both_paths(tmp_path, *LONG, *options, *overrides))


@pytest.mark.parametrize("overrides", [(), ("hardware.precision=bf16-mixed",), ("trainer.accumulate_grad_batches=2",)])
def test_short_context_attention_with_dropout_agrees_to_rounding(
    overrides: tuple[str, ...], options: list[str], tmp_path: Path
) -> None:
    fast, plain = both_paths(tmp_path, "model=dropout", *options, *overrides)
    (assert_equal_bits if "bf16" in str(overrides) else assert_close)(fast, plain)


@pytest.mark.parametrize("first", ["true", "false"])
@pytest.mark.parametrize("overrides", [(), *slow([("trainer.accumulate_grad_batches=2", "data.stream=shuffled")])])
def test_a_run_started_on_one_path_resumes_on_the_other(
    first: str, overrides: tuple[str, ...], options: list[str], tmp_path: Path
) -> None:
    second = {"true": "false", "false": "true"}[first]
    trained(tmp_path / "uninterrupted", "fast=false", *LONG, *options, *overrides)
    with killed_at(14):
        trained(tmp_path / "run", f"fast={first}", *LONG, *options, *overrides)
    trained(tmp_path / "run", f"fast={second}", *LONG, *options, *overrides)
    assert same_bits(bits(tmp_path / "run"), bits(tmp_path / "uninterrupted"))
    assert (tmp_path / "run" / "metrics.csv").read_text() == (tmp_path / "uninterrupted" / "metrics.csv").read_text()


def test_the_command_records_its_path(options: list[str], tmp_path: Path) -> None:
    for fast, path in (("auto", "fast"), ("false", "plain")):
        run = Warm("train.py", "model=bigram", f"fast={fast}", f"hydra.run.dir={path}", *options, cwd=tmp_path)
        assert run.end() == 0, run.stderr
        assert Run.read(tmp_path / path)["path"] == path
    refused = Warm("train.py", "model=bigram", "fast=maybe", "hydra.run.dir=x", *options, cwd=tmp_path)
    assert refused.end() == 2
    assert refused.stderr == "error: fast=maybe must be auto, true or false\n"
    assert not (tmp_path / "x").exists()
