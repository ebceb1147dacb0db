"""On a CUDA GPU: every rung trains, resumes, generates and evaluates, and no step waits for a value.

``python scripts/gpu_checks.py`` runs these and measures the speed. Warnings are shown and are no errors here: PyTorch
warns of what a GPU could do as well, such as TF32.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gptladder.data.datamodule import TextDataModule
from gptladder.data.text import tiny_shakespeare
from gptladder.evaluation.loss import exact_loss
from gptladder.generation.sampling import generate_text
from gptladder.runs.checkpoint import load_trained, validation_tokens
from gptladder.training.gpu_use import peak_flops
from gptladder.training.lightning_module import LanguageModel
from helpers.configs import RUNGS, composed, trained
from helpers.runs import assert_all_finite, bits, killed_at, read, same_bits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here"),
    pytest.mark.filterwarnings("default"),
]

HARDWARE = ("gpu", "mixed")
COMPILED = [pytest.param(False, id="eager"), pytest.param(True, id="compiled", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def _global_settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.compiler.reset()


def few(directory: Path, rung: str, hardware: str, compiled: bool = False) -> list[str]:
    """Overrides of a run of a few steps on a short text."""
    text = directory / "text.txt"
    text.write_text(tiny_shakespeare()[:20_000])
    warmup = ["scheduler.warmup_steps=2"] if "warmup_steps" in composed(f"model={rung}").scheduler else []
    return [
        f"model={rung}",
        f"hardware={hardware}",
        f"hardware.compile={compiled}".lower(),
        "data=text",
        f"data.path={text}",
        "data.batch_size=8",
        "data.estimate_batches=2",
        "trainer.max_steps=20",
        "trainer.val_check_interval=8",
        "trainer.log_every_n_steps=4",
        "callbacks.samples.n_tokens=3",
        *warmup,
    ]


def trained_in_new_process(run_dir: Path, *words: str) -> dict[str, Any]:
    """Train with nothing compiled yet, as in a new process."""
    torch.compiler.reset()
    return trained(run_dir, *words)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_trains_evaluates_and_generates(rung: str, hardware: str, compiled: bool, tmp_path: Path) -> None:
    result = trained(tmp_path / "run", *few(tmp_path, rung, hardware, compiled))
    assert result["status"] == "finished"
    losses = [point["val_loss"] for point in result["curve"]]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert len(result["sample"]) == 300
    name = torch.cuda.get_device_name()
    assert result["device"] == name
    assert ("mfu" in result) == (peak_flops(name) is not None and rung != "bigram")

    last = load_trained(tmp_path / "run/checkpoints/last.ckpt")
    tokens = validation_tokens(last).tokens
    digits = 1e-3 if hardware == "gpu" else 2e-2  # bf16 has three digits
    options = {"block_size": last.block_size, "vocab_size": last.tokenizer.vocab_size}
    assert exact_loss(last.net, tokens, **options) == pytest.approx(losses[-1], abs=digits)  # on the CPU
    on_gpu = exact_loss(last.net.cuda(), tokens.cuda(), **options)
    assert on_gpu == pytest.approx(losses[-1], abs=digits)
    samples = generate_text(
        last.net, last.tokenizer, "", n_samples=2, n_tokens=12, seed=1, block_size=last.block_size, temperature=0.8
    )
    assert len("".join(samples)) == 2 * 12 + len("\n----\n")


def test_fp16_trains(tmp_path: Path) -> None:
    words = few(tmp_path, "dropout", "gpu")
    result = trained(tmp_path / "run", *words, "hardware.precision=16-mixed", "trainer.gradient_clip_val=1.0")
    assert result["status"] == "finished"
    assert result["curve"][-1]["val_loss"] < result["curve"][0]["val_loss"]


@pytest.mark.parametrize("rung", ["bigram", "multihead"])
def test_the_first_estimates_of_a_shallow_rung_are_the_published_ones(rung: str, tmp_path: Path) -> None:
    words = [f"model={rung}", "hardware=gpu", "hardware.compile=false", "trainer.max_steps=401", "logger=none"]
    published = trained(tmp_path / "run", *words, "callbacks.samples=null", "callbacks.attention_maps=null")[
        "published"
    ]
    assert published["step"] == 400
    assert published["max_abs_diff"] <= 1e-3  # a GPU rounds sums in another way


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("rung", ["dropout", "gpt"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_has_the_same_bits(
    rung: str, optimizer: str, hardware: str, compiled: bool, tmp_path: Path
) -> None:
    # Fused attention and compiled embeddings sum their gradients in any order unless they are told otherwise.
    more = ["+trainer.deterministic=true"] if compiled or rung == "gpt" else []
    sizes = ["model.n_layer=2", "model.n_embd=96", "model.block_size=64"] if rung == "gpt" else []
    words = [*few(tmp_path, rung, hardware, compiled), *more, *sizes, f"optimizer={optimizer}"]
    trained_in_new_process(tmp_path / "whole", *words)
    with killed_at(13):
        trained_in_new_process(tmp_path / "run", *words)
    assert read(tmp_path / "run")["step"] == 8
    trained_in_new_process(tmp_path / "run", *words)
    assert same_bits(bits(tmp_path / "run"), bits(tmp_path / "whole"))


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_a_run_is_resumed_on_the_other_device_with_the_same_batches(first: str, then: str, tmp_path: Path) -> None:
    words = [*few(tmp_path, "multihead", "cpu"), "fast=false"]
    trained(tmp_path / "whole", *words)
    with killed_at(13):
        trained(tmp_path / "run", *words, f"hardware={first}", "hardware.compile=false")
    trained(tmp_path / "run", *words, f"hardware={then}", "hardware.compile=false")
    run, whole = bits(tmp_path / "run"), bits(tmp_path / "whole")
    streams = ["/random/global", "/random/n_drawn", "/global_step"]
    assert all(
        same_bits({"": run[name], "x": torch.ones(1)}, {"": whole[name], "x": torch.ones(1)}) for name in streams
    )
    numbers = [name for name, value in whole.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    assert len(numbers) > 10
    for name in numbers:
        torch.testing.assert_close(run[name], whole[name], atol=1e-3, rtol=1e-3)


class ForbidWaiting:
    """Makes everything that waits for the GPU an error during a few steps, from the end of one to that of another."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.seen: list[int] = []

    def __call__(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = batch_idx + 1
        self.seen.append(step)
        if step == self.first:
            torch.cuda.set_sync_debug_mode("error")
        if step == self.last:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize(
    ("rung", "more"),
    [
        ("average", []),
        ("dropout", ["optimizer=muon"]),
        ("gpt", ["data.batch_size=64"]),  # PyTorch has another kernel for the gradients of many embeddings
        ("llama", []),
    ],
)
def test_no_step_waits_for_the_gpu_except_where_a_value_is_read(
    rung: str, more: list[str], hardware: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*few(tmp_path, rung, hardware, compiled), "trainer.gradient_clip_val=1.0", "fast=false", *more]
    forbid = ForbidWaiting(first=4, last=15)
    monkeypatch.setattr(LanguageModel, "on_train_batch_end", forbid, raising=False)
    try:
        trained(tmp_path / "run", *words, "trainer.log_every_n_steps=16", "trainer.val_check_interval=20")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert forbid.seen == list(range(1, 21))


def test_what_waits_is_an_error_while_it_is_forbidden() -> None:
    value = torch.ones(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            value.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("hardware", HARDWARE)
def test_a_non_finite_value_reaches_no_checkpoint(
    hardware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil_a_weight(module: LanguageModel, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 10:
            with torch.no_grad():
                next(module.net.parameters()).fill_(torch.nan)

    monkeypatch.setattr(LanguageModel, "on_train_batch_end", spoil_a_weight, raising=False)
    words = [*few(tmp_path, "multihead", hardware), "trainer.log_every_n_steps=1000", "fast=false"]
    with pytest.raises(FloatingPointError, match="step 12: loss is nan"):
        trained(tmp_path / "run", *words)
    assert read(tmp_path / "run")["status"] == "failed"
    assert bits(tmp_path / "run")["/global_step"] == 8
    assert_all_finite(tmp_path / "run")


def test_batches_come_from_pinned_memory() -> None:
    data = TextDataModule(batch_size=4)
    strategy = SimpleNamespace(root_device=torch.device("cuda"))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
    batch = next(data.train_batches())
    pinned = data.on_before_batch_transfer(batch, 0)
    assert all(tensor.is_pinned() for tensor in pinned)
    assert all(torch.equal(a.cuda().cpu(), b) for a, b in zip(pinned, batch, strict=True))


def test_a_compiled_network_saves_plain_names(tmp_path: Path) -> None:
    words = few(tmp_path, "bigram", "gpu", compiled=True)
    trained(tmp_path / "run", *words)
    last = load_trained(tmp_path / "run/checkpoints/last.ckpt").net
    assert isinstance(last, nn.Module)
    assert list(last.state_dict()) == ["table.weight"]
