"""Claims about stretches: the steps that nothing observes are taken in one go, and none is lost or added."""

from pathlib import Path

import lightning.pytorch as L
import pytest
import torch

from gptladder.data.batches import RandomBatches
from gptladder.data.stretch import WORK_PER_STRETCH, Stretches, steps_per_stretch
from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from helpers.configs import composed

TOKENS = torch.arange(200, dtype=torch.uint8)


def stretches(first_step: int, *, n_steps: int = 4, batches_per_step: int = 1, ahead: bool = False) -> Stretches:
    blocks = RandomBatches(TOKENS, block_size=8, batch_size=2, generator=torch.Generator().manual_seed(3))
    cut = {"n_steps": n_steps, "batches_per_step": batches_per_step, "ahead": ahead}
    return Stretches(blocks, first_step=first_step, max_steps=10, **cut)


@pytest.mark.parametrize(
    ("intervals", "work", "expected"),
    [
        ([200], WORK_PER_STRETCH // 60, 50),
        ([200, 30], 1, 10),
        ([200], 2 * WORK_PER_STRETCH, 1),
        ([7], 1, 7),
        ([7], WORK_PER_STRETCH // 6, 1),
    ],
)
def test_a_stretch_ends_wherever_something_looks_and_before_it_takes_long(
    intervals: list[int], work: int, expected: int
) -> None:
    assert steps_per_stretch(intervals, work_per_step=work) == expected


@pytest.mark.parametrize("n_steps", [1, 3, 4, 50])
def test_the_stretches_of_a_run_have_its_steps(n_steps: int) -> None:
    whole = stretches(0, n_steps=n_steps)
    assert sum(stretch.n_steps for stretch in whole) == 10
    assert len(list(whole)) == len(whole)


def test_a_run_that_goes_on_takes_the_steps_that_are_left() -> None:
    assert [stretch.n_steps for stretch in stretches(8)] == [2]
    assert len(stretches(8)) == len(stretches(0)), "Lightning counts from the beginning"


def test_the_batches_are_those_of_one_stream_however_they_are_cut() -> None:
    def drawn(n_steps: int, batches_per_step: int, ahead: bool = False) -> list[torch.Tensor]:
        cut = stretches(0, n_steps=n_steps, batches_per_step=batches_per_step, ahead=ahead)
        return [x for stretch in cut for batches in stretch for x, _ in batches][:10]

    for other in (drawn(4, 1), drawn(10, 3), drawn(3, 2), drawn(4, 1, ahead=True), drawn(3, 2, ahead=True)):
        assert all(torch.equal(a, b) for a, b in zip(drawn(1, 1), other, strict=True))


@pytest.mark.parametrize(
    ("overrides", "ahead"),
    [(["model=layernorm"], True), (["model=dropout"], False), (["model=dropout", "data.stream=independent"], True)],
)
def test_no_batch_is_drawn_before_a_net_that_draws_from_the_same_numbers(
    overrides: list[str], ahead: bool, tmp_path: Path
) -> None:
    drawn: list[bool] = []

    class Watch(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: object) -> None:
            drawn.append(trainer.train_dataloader.ahead)

    cfg = composed(*overrides, "trainer.max_steps=1", f"run_dir={tmp_path}")
    data = build_datamodule(cfg)
    learner = build_module(cfg, data)
    trainer = build_trainer(cfg, data, learner, Run(tmp_path))
    trainer.callbacks.append(Watch())
    trainer.limit_val_batches = 0
    trainer.fit(learner, data)
    assert drawn == [ahead]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_stretch_tells_where_its_latest_blocks_begin(ahead: bool) -> None:
    stretch = next(iter(stretches(0, batches_per_step=2, ahead=ahead)))
    ((x, _), (z, _)) = next(iter(stretch))
    starts = [*x[:, 0].tolist(), *z[:, 0].tolist()]  # the tokens count up from 0
    assert stretch.whereabouts == f"its blocks begin at {', '.join(map(str, starts))} of the training split"
