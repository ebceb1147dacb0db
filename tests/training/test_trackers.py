"""Tags and notes of a run, and the jobs of a sweep together in MLflow and Weights & Biases."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gptladder.report import write_report
from gptladder.runs.config_types import check_config
from gptladder.runs.naming import job_name
from gptladder.system.errors import UserError
from helpers.configs import composed, trained
from helpers.runs import killed_at, small

TAGS = ("tags=[baseline,paper]", "notes='a first try'")


def run_config(**changes: Any) -> dict[str, Any]:
    config = OmegaConf.to_container(composed("run_dir=x"))
    assert isinstance(config, dict)
    return {**{str(key): value for key, value in config.items()}, **changes}


def test_tags_and_notes_are_in_the_result_the_report_and_tensorboard_and_not_part_of_the_identity(
    tmp_path: Path,
) -> None:
    tagged = trained(tmp_path / "runs" / "tagged", *small(tmp_path), *TAGS)
    plain = trained(tmp_path / "plain", *small(tmp_path))
    assert (tagged["tags"], tagged["notes"]) == (["baseline", "paper"], "a first try")
    assert (plain["tags"], plain["notes"]) == ([], None)
    assert tagged["config_hash"] == plain["config_hash"]
    assert tagged["curve"] == plain["curve"]
    write_report(tmp_path / "runs")
    page = (tmp_path / "runs" / "report.html").read_text()
    assert '<span class="tag">baseline</span> <span class="tag">paper</span>' in page
    assert "<p>a first try</p>" in page
    events = EventAccumulator(str(tmp_path / "runs" / "tagged"))
    events.Reload()
    assert {"tags/text_summary", "notes/text_summary"} <= set(events.Tags()["tensors"])


def test_tags_and_notes_are_not_part_of_the_name_of_a_job() -> None:
    assert job_name("bigram", ["seed=1", *TAGS]) == job_name("bigram", ["seed=1"]) == "bigram-seed1"


@pytest.mark.parametrize(("key", "value"), [("tags", "x"), ("tags", [["x"]]), ("tags", {"x": 1}), ("notes", ["x"])])
def test_invalid_tags_and_notes_are_user_errors(key: str, value: Any) -> None:
    check_config(run_config(tags=["x", 1], notes="a"))
    with pytest.raises(UserError, match=f"{key}=.* must be a"):
        check_config(run_config(**{key: value}))


def test_a_job_is_in_the_group_of_its_sweep(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs its extra: pip install -e '.[wandb]'")
    from gptladder.training.trackers import wandb_logger

    (tmp_path / "rates").mkdir()
    options: dict[str, Any] = {"rung": "bigram", "seed": 3, "project": "p", "offline": True}
    single = wandb_logger(run_dir=str(tmp_path / "rates" / "run"), **options)
    (tmp_path / "rates" / "multirun.yaml").touch()
    job = wandb_logger(run_dir=str(tmp_path / "rates" / "run"), tags=["x"], notes="why", **options)
    assert single._wandb_init["group"] is None
    wanted = {"group": "rates", "name": "bigram seed 3", "tags": ["x"], "notes": "why"}
    assert {key: job._wandb_init[key] for key in wanted} == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, which MLflow uses
def test_the_jobs_of_a_sweep_share_one_store_of_mlflow_and_a_resumed_one_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs its extra: pip install -e '.[mlflow]'")
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "rates"
    sweep.mkdir()
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({}))
    with killed_at(6):
        trained(sweep / "job-1", *small(tmp_path), "seed=1", "logger=mlflow", *TAGS)
    for seed in (1, 2):
        trained(sweep / f"job-{seed}", *small(tmp_path), f"seed={seed}", "logger=mlflow", *TAGS)
    client = mlflow.MlflowClient(f"sqlite:///{sweep / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("rates").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["dropout seed 1", "dropout seed 2"]
    assert {run.data.tags["tags"] for run in runs} == {"baseline,paper"}
    assert {run.data.tags["mlflow.note.content"] for run in runs} == {"a first try"}
    assert all("val/loss" in run.data.metrics for run in runs)
    assert not (tmp_path / "mlruns").exists()
    assert not list(sweep.glob("job-*/mlflow.db"))
