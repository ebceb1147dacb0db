"""A run that takes a second, its bits, and ways to stop it."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim import AdamW

from gptladder.data.text import tiny_shakespeare
from gptladder.fast.adamw import FusedAdamWStep

# What may differ between two runs of one training.
CIRCUMSTANCES = {
    *("command", "git", "path", "train_seconds", "tokens_per_second", "wall_seconds", "peak_memory_mb"),
    *("device", "peak_gpu_memory_mb", "mfu"),
}


def small(directory: Path) -> tuple[str, ...]:
    """Overrides of a run of a second with dropout, text samples and logs: a short text, small batches."""
    text = directory / "text.txt"
    if not text.exists():
        text.write_bytes(tiny_shakespeare()[:20_000].encode())
    return (
        "model=dropout",
        "data=text",
        f"data.path={text}",
        "data.batch_size=4",
        "callbacks.samples.n_tokens=3",
        "trainer.max_steps=10",
        "trainer.val_check_interval=4",
        "trainer.log_every_n_steps=2",
    )


def read(run: Path) -> dict[str, Any]:
    """The result on disk; empty where there is none."""
    path = run / "result.json"
    return json.loads(path.read_text()) if path.exists() else {}


def result(run: Path) -> dict[str, Any]:
    """The part of a result that must not depend on how often the run was stopped."""
    return {key: value for key, value in read(run).items() if key not in CIRCUMSTANCES}


def bits(run: Path) -> dict[str, Any]:
    """All numbers in the last checkpoint: weights, moments, counters, random states, curve."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    kept = {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}
    kept["random"] = checkpoint["TextDataModule"]
    kept["curve"] = next(state["curve"] for name, state in checkpoint["callbacks"].items() if "ResultWriter" in name)
    return dict(_leaves(kept))


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of numbers are equal bit for bit."""
    assert any(isinstance(value, torch.Tensor) for value in one.values())
    return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)


def points(run: Path) -> tuple[Counter[tuple[int, str]], Counter[tuple[int, str]]]:
    """The number of points of each step and name in ``metrics.csv``, and in TensorBoard."""
    with (run / "metrics.csv").open() as file:
        lines = Counter((int(row["step"]), row["name"]) for row in csv.DictReader(file))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    shown = Counter((event.step, tag) for tag in events.Tags()["scalars"] for event in events.Scalars(tag))
    return lines, shown


def contents(directory: Path) -> dict[str, bytes | None]:
    """Every path under a directory, with the content of files."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


def assert_same_run(run: Path, whole: Path) -> None:
    """Both runs have the same bits and the same result, and every point once."""
    assert result(run) == result(whole)
    assert same_bits(bits(run), bits(whole))
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    lines, shown = points(run)
    assert set(lines.values()) == set(shown.values()) == {1}
    assert lines == shown


def assert_all_finite(run: Path) -> None:
    """No weight and no moment in a checkpoint is NaN or infinite."""
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        moments = [state for optimizer in content.get("optimizer_states", []) for state in optimizer["state"].values()]
        tensors = [*content["state_dict"].values(), *(value for state in moments for value in state.values())]
        assert all(tensor.isfinite().all() for tensor in tensors if isinstance(tensor, torch.Tensor))


class Killed(BaseException):
    """Simulates a kill: no code of ours handles it."""


@contextmanager
def killed_at(step: int, error: BaseException | None = None) -> Iterator[None]:
    """Stop a training in the body after ``step`` optimizer steps, counted from its start, with an error."""
    taken, step_adamw = count(), AdamW.step
    error = error or Killed()

    def killed_step(self: AdamW, *arguments: Any, **options: Any) -> Any:
        if next(taken) == step:
            raise error
        return step_adamw(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdamW, "step", killed_step)
        patch.setattr(FusedAdamWStep, "supports", lambda optimizer: False)
        with pytest.raises(type(error)):
            yield


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{name}/{index}")
    else:
        yield name, value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)
