"""The same command learns the same to the last bit, and looking at a run changes nothing of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.data.datamodule import STREAMS
from helpers.configs import trained
from helpers.processes import Warm
from helpers.runs import bits, read, result, same_bits, small

LOOKS = {
    "no samples": ("~callbacks.samples",),
    "longer samples": ("callbacks.samples.n_tokens=7",),
    "no attention maps": ("~callbacks.attention_maps",),
    "no logger": ("logger=none",),
    "no progress": ("~callbacks.progress",),
    "every step logged": ("trainer.log_every_n_steps=1",),
    "hardly a step logged": ("trainer.log_every_n_steps=1000",),
    "no best checkpoint": ("~callbacks.best",),
}


def learnt(run: Path) -> dict[str, Any]:
    """Weights, moments and random numbers at the last step."""
    return {name: value for name, value in bits(run).items() if not name.startswith("/curve")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run in each stream, with everything on."""
    directory = tmp_path_factory.mktemp("plain")
    for stream in STREAMS:
        trained(directory / stream, *small(directory), f"data.stream={stream}")
    return {stream: directory / stream for stream in STREAMS}


@pytest.mark.parametrize("stream", STREAMS)
def test_the_same_settings_give_the_same_bits(
    stream: str, plain: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    torch.rand(17)  # whatever was drawn before
    trained(tmp_path / "run", *small(plain[stream].parent), f"data.stream={stream}")
    assert result(tmp_path / "run") == result(plain[stream])
    assert same_bits(bits(tmp_path / "run"), bits(plain[stream]))
    tried(repetitions=1)


def test_the_same_command_gives_the_same_bits(
    plain: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(plain["published"].parent), "hydra.run.dir=run")
    done = Warm("train.py", *words, cwd=tmp_path)
    assert done.end() == 0, done.stderr
    assert same_bits(learnt(tmp_path / "run"), learnt(plain["published"]))
    assert read(tmp_path / "run")["curve"] == read(plain["published"])["curve"]
    tried(repetitions=1)


def test_another_seed_gives_other_bits(plain: dict[str, Path], tmp_path: Path) -> None:
    trained(tmp_path, *small(plain["published"].parent), "seed=1")
    assert not same_bits(learnt(tmp_path), learnt(plain["published"]))


def test_the_threads_are_on_record(tmp_path: Path) -> None:
    for threads in (1, 2):
        run = tmp_path / str(threads)
        trained(run, *small(tmp_path), "logger=none", f"hardware.threads={threads}")
        assert read(run)["threads"] == threads
    torch.set_num_threads(1)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("look", LOOKS)
def test_how_a_run_is_looked_at_never_changes_what_is_learnt(
    look: str, stream: str, plain: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    trained(tmp_path / "run", *small(plain[stream].parent), f"data.stream={stream}", *LOOKS[look])
    assert same_bits(learnt(tmp_path / "run"), learnt(plain[stream]))
    assert read(tmp_path / "run")["curve"] == read(plain[stream])["curve"]
    tried(repetitions=1)


@pytest.mark.parametrize("interval", [1, 3, 10])
@pytest.mark.parametrize("stream", STREAMS)
def test_how_often_a_run_is_evaluated_changes_what_is_learnt_in_the_published_stream_alone(
    stream: str, interval: int, plain: dict[str, Path], tmp_path: Path, tried: Callable[..., None]
) -> None:
    words = (*small(plain[stream].parent), f"data.stream={stream}", f"trainer.val_check_interval={interval}")
    trained(tmp_path / "run", *words)
    # How many estimates were drawn is to be seen in their own generator; the net must not see it.
    ours, theirs = (
        {name: value for name, value in learnt(run).items() if "/random/estimate" not in name}
        for run in (tmp_path / "run", plain[stream])
    )
    assert same_bits(ours, theirs) == (stream != "published")
    tried(repetitions=1)
