"""TensorBoard and metrics.csv have every point of a run exactly once, also after a kill."""

import csv
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata

from gptladder.runs.naming import VARYING
from gptladder.training.hparams_tab import columns
from gptladder.training.hyperparameters import CHOICES, hyperparameters
from gptladder.training.loggers import ResumableCSVLogger, ResumableTensorBoardLogger
from helpers.configs import CONF, composed, trained
from helpers.runs import killed_at

SHORT = (
    "model=singlehead",
    "trainer.max_steps=10",
    "trainer.val_check_interval=4",
    "trainer.log_every_n_steps=2",
    "callbacks.samples.every_n_steps=2",
)
EVALUATIONS = [0, 4, 8, 10]
VAL_METRICS = {"train/estimate", "val/estimate", "val/loss"}
TRAIN_METRICS = {"train/loss", "train/lr", "train/tokens"}


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def tensorboard_points(run_dir: Path) -> Counter[tuple[int, str]]:
    read = events(run_dir)
    return Counter((event.step, tag) for tag in read.Tags()["scalars"] for event in read.Scalars(tag))


def csv_points(run_dir: Path) -> Counter[tuple[int, str]]:
    with (run_dir / "metrics.csv").open() as file:
        return Counter((int(row["step"]), row["name"]) for row in csv.DictReader(file))


def all_points_once() -> Counter[tuple[int, str]]:
    evaluated = [(step, name) for step in EVALUATIONS for name in VAL_METRICS]
    return Counter(evaluated + [(step, name) for step in range(2, 11, 2) for name in TRAIN_METRICS])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    trained(directory, *SHORT)
    return directory


def kill_and_resume(run_dir: Path, *, at: int) -> None:
    with killed_at(at):
        trained(run_dir, *SHORT)
    assert (run_dir / "checkpoints/last.ckpt").exists() == (at >= 4)
    trained(run_dir, *SHORT)


def test_every_point_is_in_tensorboard_once(run_dir: Path) -> None:
    assert tensorboard_points(run_dir) == all_points_once()


def test_every_point_is_in_the_csv_once(run_dir: Path) -> None:
    assert csv_points(run_dir) == all_points_once()


def test_tensorboard_and_csv_have_the_values_of_the_result(tmp_path: Path) -> None:
    curve = trained(tmp_path, *SHORT)["curve"]
    read = events(tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        written = {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(file)}
    for key, name in {
        "train_estimate": "train/estimate",
        "val_estimate": "val/estimate",
        "val_loss": "val/loss",
    }.items():
        expected = {point["step"]: point[key] for point in curve}
        assert {event.step: event.value for event in read.Scalars(name)} == pytest.approx(expected, abs=1e-6)
        assert {step: written[step, name] for step in EVALUATIONS} == pytest.approx(expected, abs=1e-6)


def test_tokens_count_the_steps_taken(run_dir: Path) -> None:
    assert {event.step: event.value for event in events(run_dir).Scalars("train/tokens")} == {
        step: step * 32 * 8 for step in range(2, 11, 2)
    }


def test_an_uninterrupted_run_has_one_event_file(run_dir: Path) -> None:
    assert len(list(run_dir.glob("events.*"))) == 1


@pytest.mark.parametrize("at", [3, 4, 5, 7, 9])
def test_a_resumed_run_has_every_point_once(at: int, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, at=at)
    assert csv_points(tmp_path) == all_points_once()
    assert tensorboard_points(tmp_path) == all_points_once()


def test_a_resumed_run_has_every_sample_and_attention_map_once(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, at=9)
    read = events(tmp_path)
    assert [event.step for event in read.Tensors("samples/text_summary")] == EVALUATIONS
    assert [event.step for event in read.Images("weights/layer 1")] == [0, 10]


def test_metrics_are_on_disk_before_the_checkpoint_of_their_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, Counter[tuple[int, str]]] = {}

    def save_checkpoint(self: Any, trainer: Any, *_: Any) -> None:
        seen[trainer.global_step] = tensorboard_points(tmp_path)
        assert events(tmp_path).Tensors("samples/text_summary")[-1].step == trainer.global_step

    monkeypatch.setattr("lightning.pytorch.callbacks.ModelCheckpoint._save_last_checkpoint", save_checkpoint)
    trained(tmp_path, *SHORT)
    assert set(seen) == set(EVALUATIONS[1:])
    for step, points in seen.items():
        assert {name for at, name in points if at == step} == VAL_METRICS | TRAIN_METRICS


def test_an_incomplete_event_is_removed(run_dir: Path, tmp_path: Path) -> None:
    (complete,) = run_dir.glob("events.*")
    truncated = tmp_path / complete.name
    truncated.write_bytes(complete.read_bytes()[:-7])
    ResumableTensorBoardLogger(run_dir=str(tmp_path)).truncate_after(8)
    steps = {event.step for event in LegacyEventFileLoader(str(truncated)).Load()}
    assert steps == {0, 2, 4, 6, 8}
    assert list(tmp_path.iterdir()) == [truncated]


def test_events_of_version_0_1_are_truncated_in_their_own_directory(run_dir: Path, tmp_path: Path) -> None:
    (complete,) = run_dir.glob("events.*")
    old = tmp_path / "tensorboard" / complete.name
    old.parent.mkdir()
    old.write_bytes(complete.read_bytes())
    ResumableTensorBoardLogger(run_dir=str(tmp_path)).truncate_after(4)
    assert {event.step for event in LegacyEventFileLoader(str(old)).Load()} == {0, 2, 4}


def test_an_incomplete_line_is_removed(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,name,value\n2,lr,0.1\n4,val/loss,2.5\n6,lr,0.1\n6,l")
    ResumableCSVLogger(run_dir=str(tmp_path)).truncate_after(4)
    assert (tmp_path / "metrics.csv").read_text() == "step,name,value\n2,lr,0.1\n4,val/loss,2.5\n"


def test_train_and_val_of_one_quantity_share_a_chart(run_dir: Path) -> None:
    (event,) = events(run_dir).Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(event.tensor_proto.string_val[0]).category
    assert {chart.title: list(chart.multiline.tag) for chart in category.chart} == {
        "estimate": ["train/estimate", "val/estimate"],
        "loss": ["train/loss", "val/loss"],
    }


def test_hyperparameters_are_shown(run_dir: Path) -> None:
    summary = events(run_dir).summary_metadata
    content = summary[metadata.SESSION_START_INFO_TAG].plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content).hparams
    assert shown["rung"].string_value == "singlehead"
    assert {name: shown[name].number_value for name in ("seed", "n_layer", "head_size", "batch_size", "lr")} == {
        "seed": 1337,
        "n_layer": 1,
        "head_size": 16,
        "batch_size": 32,
        "lr": 1e-3,
    }
    assert shown["weight_decay"].number_value == 0.01
    assert shown["hardware.precision"].string_value == "32-true"
    assert not any("_target_" in name or "dir" in name or "path" in name.split(".") for name in shown)
    assert "hp_metric" not in events(run_dir).Tags()["scalars"]


def test_the_exact_loss_is_the_first_metric_of_hparams_and_lr_appears_once(run_dir: Path) -> None:
    content = events(run_dir).summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    shown = metadata.parse_experiment_plugin_data(content)
    metrics = [metric.name.tag for metric in shown.metric_infos]
    assert metrics == ["val/loss", "val/estimate", "train/estimate", "train/loss"]
    names = [column.name for column in shown.hparam_infos]
    assert [name for name in (*names, *metrics) if name.rpartition("/")[2] in ("lr", "rung_lr")] == ["lr"]


def test_the_hparams_that_vary_in_a_sweep_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(varying: str) -> set[str]:
        monkeypatch.setenv(VARYING, varying)
        (value,) = columns({"seed": 1, "lr": 1e-3}).value
        shown = metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content)
        return {column.name for column in shown.hparam_infos if column.differs}

    assert first("") == {"rung", "lr", "seed", "n_layer", "n_embd"}
    assert first("optimizer.lr,scheduler.warmup_steps,tokenizer,ablation,model,hydra.sweep.subdir") == {
        "lr", "scheduler.warmup_steps", "tokenizer", "ablation", "rung",
    }  # fmt: skip


def test_one_run_describes_the_hparams_of_every_config() -> None:
    """TensorBoard reads the description of one run for all."""

    def shown(*words: str) -> dict[str, Any]:
        config = OmegaConf.to_container(composed(*words, "run_dir=x"))
        assert isinstance(config, dict)
        return hyperparameters({**config, "choices": dict.fromkeys(CHOICES, "none")})

    (value,) = columns(shown("model=bigram")).value
    described = metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content)
    columns_of_bigram = {column.name for column in described.hparam_infos}
    for group in ("model", "optimizer", "scheduler", "tokenizer", "experiment"):
        for path in (CONF / group).glob("*.yaml"):
            if path.stem != "search":  # which needs Optuna
                assert set(shown(f"{group}={path.stem}")) <= columns_of_bigram, path


def test_an_event_file_is_closed_with_its_logger(tmp_path: Path) -> None:
    logger = ResumableTensorBoardLogger(run_dir=str(tmp_path))
    writer = logger.experiment
    logger.finalize("success")
    assert writer.file_writer is not None
    del logger
    gc.collect()
    assert writer.file_writer is None


def test_no_logger_is_needed(tmp_path: Path) -> None:
    trained(tmp_path, *SHORT, "logger=none")
    assert not list(tmp_path.glob("events.*"))
    assert not (tmp_path / "metrics.csv").exists()
