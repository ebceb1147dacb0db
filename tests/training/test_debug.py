"""The choices of ``debug``, the learning-rate range test, early stopping, and other loggers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gptladder.model.attention import CausalSelfAttention
from helpers.configs import CONF, composed, trained

FEW = ["trainer.max_steps=8", "trainer.val_check_interval=2", "data.estimate_batches=2", "logger=none"]


@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "debug").glob("*.yaml")))
def test_every_debug_config_composes_with_any_rung(choice: str) -> None:
    for rung in ("bigram", "gpt"):
        assert composed(f"model={rung}", f"debug={choice}").rung == rung


def test_fast_takes_20_steps_and_one_evaluation(tmp_path: Path) -> None:
    result = trained(tmp_path, "model=multihead", "debug=fast", "logger=none")
    assert [point["step"] for point in result["curve"]] == [0, 20]


def test_fast_also_trains_a_rung_with_a_longer_warmup(tmp_path: Path) -> None:
    result = trained(tmp_path, "model=llama", "model.n_layer=1", "model.n_embd=32", "debug=fast", "logger=none")
    assert (result["status"], result["step"]) == ("finished", 20)


def test_anomaly_names_the_module_with_the_first_non_finite_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = CausalSelfAttention.forward

    def forward_nan(self: CausalSelfAttention, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return forward(self, x, *rest) * (float("nan") if self.training else 1.0)

    monkeypatch.setattr(CausalSelfAttention, "forward", forward_nan)
    with pytest.raises(FloatingPointError, match=r"net\.blocks\.0\.attention \(CausalSelfAttention\)"):
        trained(tmp_path, "model=multihead", "model.block_size=17", "debug=anomaly", *FEW)


@pytest.mark.slow
def test_profile_writes_a_table_of_the_training_and_a_trace(tmp_path: Path) -> None:
    trained(tmp_path, "model=multihead", "debug=profile", "trainer.max_steps=10", "logger=none")
    assert "training_step" in (tmp_path / "profile/fit-steps.txt").read_text()
    (trace,) = (tmp_path / "profile").glob("fit-*.json")
    assert json.loads(trace.read_text())["traceEvents"]


@pytest.mark.parametrize("rung", ["multihead", "layernorm"])
def test_overfit_memorizes_a_few_windows(rung: str, tmp_path: Path) -> None:
    few = [
        "trainer.max_steps=400",
        "trainer.val_check_interval=400",
        "data.estimate_batches=1",
        "callbacks.samples=null",
    ]
    words = [f"model={rung}", "debug=overfit", *few, "logger=csv", "trainer.log_every_n_steps=400"]
    result = trained(tmp_path, *words)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    (loss,) = [float(line.split(",")[2]) for line in lines if line.split(",")[1] == "train/loss"]
    assert loss < 0.05
    assert result["overfit"] == {"windows": 4, "train_loss": pytest.approx(loss, rel=1e-4)}


def test_the_range_test_suggests_a_learning_rate_and_changes_no_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=multihead", "experiment=lr_find", "callbacks.lr_find.n_steps=60", "data.estimate_batches=2"]
    result = trained(tmp_path, *words)
    found: dict[str, Any] = json.loads((tmp_path / "lr_find.json").read_text())
    assert 1e-5 < found["suggestion"] < 1.0
    assert f"optimizer.lr={found['suggestion']:.2g}" in capsys.readouterr().out
    assert found["lr"] == sorted(found["lr"])
    with Image.open(tmp_path / "lr_find.png") as picture:
        assert picture.width > 300
    assert (result["status"], result["step"]) == ("stopped", 0)
    again = trained(tmp_path / "again", *words, "callbacks.lr_find=null", "trainer.max_steps=1", "optimizer.lr=1e-9")
    assert result["val_loss"] == pytest.approx(again["val_loss"], abs=1e-4)


def test_a_run_that_does_not_improve_stops_early(tmp_path: Path) -> None:
    patience = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1"]
    hopeless = "callbacks.early_stopping.min_delta=1.0"
    result = trained(tmp_path / "hopeless", "model=bigram", *patience, hopeless, *FEW)
    assert (result["status"], result["step"]) == ("stopped", 4)
    assert trained(tmp_path / "learning", "model=bigram", *patience, *FEW)["step"] == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of those packages
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("logger", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_other_loggers_work_offline(logger: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package, reason=f"logger={logger} needs its extra: pip install 'gpt-ladder[{logger}]'")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = trained(tmp_path, "model=bigram", f"logger={logger}", *FEW[:-1])
    assert result["status"] == "finished"
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and logger in str(path.relative_to(tmp_path))]
    assert kept
