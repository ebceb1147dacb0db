"""The fast evaluation loop: batches in parallel give the bits of one after another, and errors as they are."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn

from gptladder.data.datamodule import TextDataModule
from gptladder.data.evaluation_batches import SequentialBatches
from gptladder.data.windows import Batch
from gptladder.fast.evaluation_loop import FastEvaluationLoop
from gptladder.fast.training_loop import install_loops
from gptladder.model import Bigram
from gptladder.training.callbacks.nonfinite import nonfinite_error
from gptladder.training.lightning_module import LanguageModel
from helpers.networks import build_gpt


@pytest.fixture(scope="module")
def data() -> TextDataModule:
    return TextDataModule(estimate_batches=200, stream="independent")


def validate(net: nn.Module, data: TextDataModule, *, threads: int | None) -> dict[str, Any]:
    """The metrics of an evaluation; ``None`` threads is Lightning's own loop."""
    trainer = L.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, devices=1,
        accelerator="cpu",
    )  # fmt: skip
    if threads is not None:
        install_loops(trainer, threads=threads, nonfinite_error=nonfinite_error)
    data.estimate_generator.manual_seed(1)
    module = LanguageModel(net)
    trainer.validate(module, data, verbose=False)
    assert sum(losses.compute()[1] for losses in module.val_losses.values()) == 2 * 200 * 32 * 8 + 111_539
    return {**trainer.callback_metrics, **module.val_metrics}


def test_parallel_batches_give_the_same_bits_as_lightnings_loop(data: TextDataModule) -> None:
    net = build_gpt()
    lightning, *fast = (validate(net, data, threads=threads) for threads in (None, 1, 2, 3))
    assert {"train/estimate", "val/estimate", "val/loss"} <= lightning.keys()
    assert all(metrics == lightning for metrics in fast)


def compute_losses(net: nn.Module, batches: Iterator[Batch], *, threads: int) -> Iterator[tuple[Tensor, int]]:
    return FastEvaluationLoop._losses(SimpleNamespace(threads=threads), net, batches)  # type: ignore[arg-type]


def test_parallel_batches_run_at_the_same_time_on_one_thread_each_without_gradients() -> None:
    barrier = threading.Barrier(2, timeout=30)
    threads = set()

    class Watched(Bigram):
        def forward(self, idx: Tensor) -> Tensor:
            barrier.wait()  # passes when a second thread arrives
            threads.add(threading.current_thread())
            assert torch.is_inference_mode_enabled()
            assert torch.get_num_threads() == 1
            return super().forward(idx)

    tokens = torch.randint(65, (6 * 4096 + 1,))
    for _ in range(5):  # evaluations share their threads
        batches = iter(SequentialBatches(tokens, block_size=8, vocab_size=2))
        assert [n for _, n in compute_losses(Watched(), batches, threads=2)] == [4096] * 6
    assert len(threads) == 2


def test_parallel_batches_keep_their_order_and_are_read_as_they_are_needed() -> None:
    n_read = 0

    def batches() -> Iterator[Batch]:
        nonlocal n_read
        for n_read in range(1, 101):
            yield torch.zeros(1, n_read, dtype=torch.long), torch.zeros(1, n_read, dtype=torch.long)

    for number, (_, n_tokens) in enumerate(compute_losses(Bigram(block_size=100), batches(), threads=2), start=1):
        assert n_tokens == number
        assert n_read <= number + 4
    assert n_read == 100


def test_an_error_in_a_batch_is_the_error_of_the_evaluation(data: TextDataModule) -> None:
    for threads in (1, 2):
        with pytest.raises(IndexError, match="out of range"):
            validate(Bigram(vocab_size=2), data, threads=threads)
