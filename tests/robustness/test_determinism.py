"""The same command trains to the same bits, and observing a run changes nothing in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.data.datamodule import STREAMS
from helpers.configs import trained
from helpers.marks import slow
from helpers.processes import Warm
from helpers.runs import bits, read, result, same_bits, small

OBSERVERS = {
    "no samples": ("~callbacks.samples",),
    "longer samples": ("callbacks.samples.n_tokens=7",),
    "no attention maps": ("~callbacks.attention_maps",),
    "no logger": ("logger=none",),
    "no progress": ("~callbacks.progress",),
    "every step logged": ("trainer.log_every_n_steps=1",),
    "almost no step logged": ("trainer.log_every_n_steps=1000",),
    "no best checkpoint": ("~callbacks.best",),
    "a callback at every step": (
        "+callbacks.lr={_target_: lightning.pytorch.callbacks.LearningRateMonitor, logging_interval: step}",
    ),
    "a profiler": ("+trainer.profiler=simple",),
    "a check of every output": ("debug=anomaly", "trainer.detect_anomaly=false"),
}


def learned_bits(run: Path) -> dict[str, Any]:
    """Weights, moments and random numbers at the last step."""
    return {name: value for name, value in bits(run).items() if not name.startswith("/curve")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each stream with the default observers."""
    directory = tmp_path_factory.mktemp("runs")
    for stream in STREAMS:
        trained(directory / stream, *small(directory), f"data.stream={stream}")
    return {stream: directory / stream for stream in STREAMS}


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_settings_give_the_same_bits(
    stream: str, runs: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    torch.rand(17)  # the state of the global generator does not matter
    trained(tmp_path / "run", *small(runs[stream].parent), f"data.stream={stream}")
    assert result(tmp_path / "run") == result(runs[stream])
    assert same_bits(bits(tmp_path / "run"), bits(runs[stream]))
    tried(repetitions=1)


def test_the_same_command_gives_the_same_bits(
    runs: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(runs["published"].parent), "hydra.run.dir=run")
    done = Warm("train.py", *words, cwd=tmp_path)
    assert done.end() == 0, done.stderr
    assert same_bits(learned_bits(tmp_path / "run"), learned_bits(runs["published"]))
    assert read(tmp_path / "run")["curve"] == read(runs["published"])["curve"]
    tried(repetitions=1)


def test_another_seed_gives_different_bits(runs: dict[str, Path], tmp_path: Path) -> None:
    trained(tmp_path, *small(runs["published"].parent), "seed=1")
    assert not same_bits(learned_bits(tmp_path), learned_bits(runs["published"]))


def test_the_number_of_threads_is_recorded(tmp_path: Path) -> None:
    for threads in (1, 2):
        run = tmp_path / str(threads)
        trained(run, *small(tmp_path), "logger=none", f"hardware.threads={threads}")
        assert read(run)["threads"] == threads
    torch.set_num_threads(1)


@pytest.mark.parametrize("stream", [STREAMS[0], *slow(STREAMS[1:])])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_an_observer_changes_no_bit(
    observer: str, stream: str, runs: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    trained(tmp_path / "run", *small(runs[stream].parent), f"data.stream={stream}", *OBSERVERS[observer])
    assert same_bits(learned_bits(tmp_path / "run"), learned_bits(runs[stream]))
    assert read(tmp_path / "run")["curve"] == read(runs[stream])["curve"]
    tried(repetitions=1)


@pytest.mark.parametrize("interval", [3, *slow([1, 10])])
@pytest.mark.parametrize("stream", STREAMS)
def test_the_evaluation_interval_changes_bits_in_the_published_stream_only(
    stream: str, interval: int, runs: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(runs[stream].parent), f"data.stream={stream}", f"trainer.val_check_interval={interval}")
    trained(tmp_path / "run", *words)
    # The generator of the estimates has advanced further; everything else must be the same.
    changed, original = (
        {name: value for name, value in learned_bits(run).items() if "/random/estimate" not in name}
        for run in (tmp_path / "run", runs[stream])
    )
    assert same_bits(changed, original) == (stream != "published")
    tried(repetitions=1)
