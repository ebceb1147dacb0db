"""The fast loops: which steps Lightning sees, and how batches are drawn and evaluated."""

import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn

from gptladder.data.batches import RandomBatches, SequentialBatches
from gptladder.fast import evaluation_loop, training_loop
from gptladder.fast.evaluation_loop import FastEvaluationLoop
from gptladder.fast.training_loop import FastTrainingEpochLoop
from gptladder.model import Bigram
from gptladder.model.loss import next_token_loss
from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.callbacks.progress import Progress
from helpers.configs import record_config

FEW = ("logger=none", "callbacks.samples=null", "callbacks.attention_maps=null", "data.estimate_batches=1")


def seen_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[int]:
    """The steps of a run that Lightning sees, as a callback of ours would."""
    steps: list[int] = []

    def on_train_batch_end(self: Progress, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step not in steps:
            steps.append(trainer.global_step)

    monkeypatch.setattr(Progress, "on_train_batch_end", on_train_batch_end)
    cfg = record_config(tmp_path, *FEW, *overrides)
    data = build_datamodule(cfg)
    module = build_module(cfg, data)
    trainer = build_trainer(cfg, module, data, Run(tmp_path))
    trainer.fit(module, data)
    assert trainer.global_step == cfg.trainer.max_steps
    return steps


def test_lightning_sees_the_steps_at_which_something_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=50", "trainer.val_check_interval=20", "trainer.log_every_n_steps=15")
    assert seen_steps(tmp_path, monkeypatch, *options) == [15, 20, 30, 40, 45, 50]


def test_a_checkpoint_interval_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=20", "trainer.val_check_interval=20", "+callbacks.last.every_n_train_steps=7")
    assert seen_steps(tmp_path, monkeypatch, *options) == [7, 14, 20]


def test_accumulated_batches_belong_to_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("trainer.max_steps=12", "trainer.val_check_interval=6", "trainer.accumulate_grad_batches=3")
    steps = seen_steps(tmp_path, monkeypatch, *options)
    assert steps == [5, 6, 11, 12]  # the first two batches of a step that Lightning sees come after the step before


def test_steps_that_take_long_are_seen_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "MAX_WORK", 4225 * 256 * 2)  # two steps of a bigram
    options = ("trainer.max_steps=9", "trainer.val_check_interval=9")
    assert seen_steps(tmp_path, monkeypatch, *options) == [3, 6, 9]


@pytest.mark.parametrize(
    ("overrides", "in_one_call"),
    [(["model=layernorm"], True), (["model=dropout"], False), (["model=dropout", "data.stream=independent"], True)],
)
def test_batches_are_not_prefetched_when_dropout_shares_the_generator(
    overrides: list[str], in_one_call: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    sample = RandomBatches.sample

    def watched(self: RandomBatches, n_batches: int) -> Any:
        sizes.append(n_batches)
        return sample(self, n_batches)

    monkeypatch.setattr(RandomBatches, "sample", watched)
    seen_steps(tmp_path, monkeypatch, *overrides, "trainer.max_steps=10", "trainer.val_check_interval=10")
    assert (max(sizes) > 1) == in_one_call
    assert sum(sizes) == 10


def losses(net: nn.Module, tokens: Tensor, threads: int) -> list[tuple[float, int]]:
    loop = FastEvaluationLoop.__new__(FastEvaluationLoop)
    loop.threads = threads
    if threads == 1:
        batches = SequentialBatches(tokens, block_size=8)
        return [(float(next_token_loss(net(x), y).detach()), y.numel()) for x, y in batches]
    return [(float(loss), n) for loss, n in loop._losses(net, iter(SequentialBatches(tokens, block_size=8)))]


def test_batches_in_parallel_give_the_bits_of_one_after_another() -> None:
    torch.manual_seed(0)
    net, tokens = Bigram(vocab_size=65, block_size=8), torch.randint(65, (100_000,))
    assert losses(net, tokens, 3) == losses(net, tokens, 1)
    assert sum(n for _, n in losses(net, tokens, 3)) == 99_999


def test_parallel_means_at_the_same_time_on_one_thread_each_without_gradients() -> None:
    meeting = threading.Barrier(2, timeout=30)
    threads = set()

    class Watched(Bigram):
        def forward(self, idx: Tensor) -> Tensor:
            meeting.wait()  # which two threads have to reach
            threads.add(threading.current_thread())
            assert torch.is_inference_mode_enabled()
            assert torch.get_num_threads() == 1
            return super().forward(idx)

    tokens = torch.randint(65, (6 * 4096 + 1,))
    for _ in range(5):  # evaluations share their threads
        assert len(losses(Watched(), tokens, 2)) == 6
    assert len(threads) == 2


def test_an_error_in_a_batch_is_the_error_of_the_evaluation() -> None:
    with pytest.raises(IndexError):
        losses(Bigram(vocab_size=2), torch.full((9000,), 5), 2)


def test_the_loops_are_lightnings_with_other_methods() -> None:
    assert FastTrainingEpochLoop.on_advance_end is FastTrainingEpochLoop.__base__.on_advance_end  # type: ignore[union-attr]
    assert evaluation_loop._thread_pool(2) is evaluation_loop._thread_pool(2)
