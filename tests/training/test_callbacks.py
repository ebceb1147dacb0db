"""Samples, attention maps and progress: they show the run as it is, and change nothing in it."""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptladder.data.datamodule import TextDataModule
from gptladder.evaluation.attention_maps import CELL, MARGIN, TITLE, draw_heads
from gptladder.model.attention import attention_weights
from gptladder.training.build import build_datamodule, build_module
from gptladder.training.callbacks.text_samples import sample
from gptladder.training.lightning_module import LanguageModel
from helpers.configs import composed, trained
from helpers.runs import killed_at

SHORT = (
    "trainer.max_steps=6",
    "trainer.val_check_interval=3",
    "trainer.log_every_n_steps=2",
    "callbacks.samples.every_n_steps=3",
)


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir), size_guidance={"tensors": 0, "images": 0})
    accumulator.Reload()
    return accumulator


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    trained(directory, "model=layernorm", *SHORT)
    return directory


@pytest.fixture(scope="module")
def untrained() -> tuple[LanguageModel, TextDataModule]:
    cfg = composed("model=dropout", "run_dir=none")
    torch.manual_seed(0)
    data = build_datamodule(cfg)
    return build_module(cfg, data).eval(), data


def test_samples_are_in_tensorboard_at_the_chosen_steps(run_dir: Path) -> None:
    samples = events(run_dir).Tensors("samples/text_summary")
    assert [event.step for event in samples] == [0, 3, 6]


def test_by_default_a_short_run_is_sampled_at_its_first_and_last_step(tmp_path: Path) -> None:
    trained(tmp_path, "model=bigram", *SHORT[:-1])
    assert [event.step for event in events(tmp_path).Tensors("samples/text_summary")] == [0, 6]


def test_a_sample_keeps_its_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gptladder.training.callbacks.text_samples.sample", lambda *_: "KING:\n\n  # So *foul*\r\nand <fair>\n"
    )
    trained(tmp_path, "model=bigram", *SHORT)
    (text,) = events(tmp_path).Tensors("samples/text_summary")[-1].tensor_proto.string_val
    assert text.decode() == "    KING:\n\n      # So *foul*\r\n    and <fair>\n"


def test_the_sample_in_the_result_starts_with_the_last_one_in_tensorboard(tmp_path: Path) -> None:
    result = trained(tmp_path, "model=bigram", *SHORT)
    (text,) = events(tmp_path).Tensors("samples/text_summary")[-1].tensor_proto.string_val
    lines = [line.removeprefix("    ") for line in text.decode().split("\n")]
    assert len("\n".join(lines)) == 100
    assert result["sample"].startswith("\n".join(lines))


def test_attention_maps_of_every_layer_are_drawn_at_the_first_and_last_evaluation(run_dir: Path) -> None:
    read = events(run_dir)
    assert read.Tags()["images"] == ["weights/layer 1", "weights/layer 2", "weights/layer 3"]
    for tag in read.Tags()["images"]:
        assert [image.step for image in read.Images(tag)] == [0, 6]


def test_an_attention_map_is_a_small_image_of_every_head(run_dir: Path) -> None:
    (_, image) = events(run_dir).Images("weights/layer 1")
    side = MARGIN + 8 * CELL  # four heads of 8 positions, two by two
    assert Image.open(BytesIO(image.encoded_image_string)).size == (2 * side + MARGIN, 2 * (side + TITLE) + MARGIN // 2)
    assert len(image.encoded_image_string) < 30_000


@pytest.mark.parametrize(("n_heads", "grid"), [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2))])
def test_heads_are_drawn_in_a_nearly_square_grid(n_heads: int, grid: tuple[int, int]) -> None:
    image = draw_heads(torch.ones(n_heads, 2, 2).tril(), ["a", "b"])
    side = MARGIN + 2 * CELL
    assert image.size == (grid[0] * side + MARGIN, grid[1] * (side + TITLE) + MARGIN // 2)


def test_larger_weights_are_darker_and_the_future_is_white() -> None:
    image = draw_heads(torch.tensor([[[1.0, 0.0], [0.3, 0.7]]]), ["a", "b"]).convert("L")

    def shade(row: int, column: int) -> int:
        place = MARGIN + column * CELL + CELL // 2, TITLE + MARGIN + row * CELL + CELL // 2
        value = image.getpixel(place)
        assert isinstance(value, int)
        return value

    assert shade(0, 0) < shade(1, 1) < shade(1, 0) < shade(0, 1) == 255


@pytest.mark.parametrize("label", [" ", "\n", "\t", "\x00", "é", "🙂"])
def test_any_character_can_be_a_label(label: str) -> None:
    labelled, blank = (draw_heads(torch.ones(1, 1, 1), [text]) for text in (label, ""))
    assert labelled.tobytes() != blank.tobytes()


@pytest.mark.parametrize("rung", ["bigram", "embedding"])
def test_a_rung_without_attention_has_no_maps(rung: str, tmp_path: Path) -> None:
    trained(tmp_path, f"model={rung}", *SHORT)
    assert events(tmp_path).Tags()["images"] == []


def test_attention_weights_of_a_compiled_network_equal_those_of_the_plain_one(
    untrained: tuple[LanguageModel, TextDataModule],
) -> None:
    module, data = untrained
    net = module.net
    prompt = data.val_tokens[:8].long()
    plain = attention_weights(net, prompt)
    called: list[bool] = []
    net.__dict__["_compiled_call_impl"] = lambda *_: called.append(True)  # compiled code may ignore hooks
    try:
        compiled = attention_weights(net, prompt)
    finally:
        net.__dict__["_compiled_call_impl"] = None
    assert not called
    assert len(compiled) == 3
    assert all(torch.equal(one, other) for one, other in zip(plain, compiled, strict=True))
    assert all(torch.allclose(layer.sum(-1), torch.ones(4, 8)) for layer in plain)


def test_samples_and_attention_maps_leave_the_global_generator_unchanged(
    untrained: tuple[LanguageModel, TextDataModule],
) -> None:
    module, data = untrained
    before = torch.get_rng_state()
    assert sample(module, data, 20) == sample(module, data, 20)
    attention_weights(module.net, data.val_tokens[:8].long())
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_maps_and_loggers_do_not_change_the_curve(tmp_path: Path) -> None:
    watched = trained(tmp_path / "watched", "model=dropout", *SHORT)
    alone = trained(
        tmp_path / "alone", "model=dropout", *SHORT, "~callbacks.samples", "~callbacks.attention_maps", "logger=none"
    )
    assert alone["curve"] == watched["curve"]


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[..., Console] = Console
    monkeypatch.setattr(
        "gptladder.training.callbacks.progress.Console",
        lambda **options: make(force_terminal=True, width=80, file=sys.stdout, **options),
    )


def test_a_pipe_gets_one_line_per_evaluation_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = trained(tmp_path, "model=bigram", *SHORT)["curve"]
    assert capsys.readouterr().out.splitlines() == [
        f"step {point['step']:>6}   train {point['train_estimate']:.4f}   val {point['val_estimate']:.4f}"
        f"   exact val {point['val_loss']:.4f}"
        for point in curve
    ]


def test_a_terminal_gets_the_same_lines_and_a_progress_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    trained(tmp_path, "model=bigram", *SHORT)
    out = capsys.readouterr().out
    assert [out.count(f"step {step:>6}   train") for step in (0, 3, 6)] == [1, 1, 1]
    assert "/6 steps" in out.replace("\x1b[0m", "").replace("\x1b[32m", "")


def test_the_cursor_of_the_terminal_is_restored_when_a_run_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    with killed_at(1, SystemExit(143)):
        trained(tmp_path, "model=bigram", *SHORT)
    out = capsys.readouterr().out
    assert out.rindex("\x1b[?25h") > out.rindex("\x1b[?25l")
