"""Lightning's contract: its callbacks and flags do what its documentation says, or are refused with one line."""

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.tuner import Tuner
from torch import Tensor

from gptladder.data.datamodule import TextDataModule
from gptladder.data.text import tiny_shakespeare
from gptladder.model import GPT, Bigram
from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.fit import fit
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.speed import chosen_path
from helpers.configs import record_config

N_STEPS = 6


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(tiny_shakespeare()[:6_000])
    return path


def run_with(
    text: Path, run_dir: Path, *overrides: str, callback: L.Callback | None = None
) -> tuple[L.Trainer, LanguageModel]:
    """Train a small rung for a few steps as ``train.py`` does, with one more callback."""
    cfg = record_config(
        run_dir,
        "model=multihead",
        "data=text",
        f"data.path={text}",
        "data.batch_size=4",
        "data.estimate_batches=2",
        "logger=csv",
        "callbacks.samples.n_tokens=2",
        "callbacks.progress=null",
        f"trainer.max_steps={N_STEPS}",
        "trainer.val_check_interval=3",
        "trainer.log_every_n_steps=3",
        *overrides,
    )
    run = Run(run_dir)
    with run.recording():
        torch.manual_seed(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        extra = [] if callback is None else [callback]
        trainer = build_trainer(cfg, module, data, run, callbacks=extra)
        fit(trainer, module, data, run)
    return trainer, module


class CountSteps(L.Callback):
    """A user's callback."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(trainer.global_step)
        self.losses.append(float(outputs["loss"]))


def test_a_callback_sees_every_step_and_one_line_says_why_the_path_is_plain(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = CountSteps()
    trainer, _ = run_with(text, tmp_path / "run", callback=counter)
    assert counter.steps == list(range(1, N_STEPS + 1))
    assert chosen_path(trainer) == "plain"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fast=auto")]
    assert lines == ["fast=auto: using the plain training loop, because the callback CountSteps observes single steps"]
    assert Run.read(tmp_path / "run")["path"] == "plain"


def test_an_observer_changes_no_bit(text: Path, tmp_path: Path) -> None:
    _, observed = run_with(text, tmp_path / "observed", callback=CountSteps())
    trainer, fast = run_with(text, tmp_path / "fast")
    assert chosen_path(trainer) == "fast"
    assert all(torch.equal(a, b) for a, b in zip(observed.parameters(), fast.parameters(), strict=True))


def test_fast_true_is_refused_with_the_name_of_the_observer(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fast=true is not possible, because the callback CountSteps observes"):
        run_with(text, tmp_path / "run", "fast=true", callback=CountSteps())


# Every callback of Lightning: how it is built, and whether it works or with which words it is refused.
CALLBACKS: dict[str, tuple[dict[str, Any], str | None]] = {
    "BackboneFinetuning": ({}, "backbone"),
    "BasePredictionWriter": ({"write_interval": "batch"}, None),
    "BatchSizeFinder": ({}, "data.batch_size"),
    "Callback": ({}, None),
    "DeviceStatsMonitor": ({"cpu_stats": True}, None),
    "EMAWeightAveraging": ({}, None),
    "EarlyStopping": ({"monitor": "val/loss"}, None),
    "GradientAccumulationScheduler": ({"scheduling": {0: 2}}, "trainer.accumulate_grad_batches"),
    "LambdaCallback": ({"on_train_batch_end": lambda *_: None}, None),
    "LearningRateFinder": ({}, "experiment=lr_find"),
    "LearningRateMonitor": ({"logging_interval": "step"}, None),
    "ModelCheckpoint": ({"every_n_train_steps": 2, "save_top_k": -1}, None),
    "ModelPruning": ({"pruning_fn": "l1_unstructured", "parameters_to_prune": None, "amount": 0.1}, None),
    "ModelSummary": ({}, None),
    "OnExceptionCheckpoint": ({"dirpath": "exceptions"}, None),
    "ProgressBar": ({}, "enable_progress_bar"),
    "RichModelSummary": ({}, None),
    "RichProgressBar": ({}, "enable_progress_bar"),
    "StochasticWeightAveraging": ({"swa_lrs": 1e-3}, "EMAWeightAveraging"),
    "SpikeDetection": ({}, None),
    "TQDMProgressBar": ({}, "enable_progress_bar"),
    "ThroughputMonitor": ({"batch_size_fn": lambda batch: batch[0].size(0)}, None),
    "Timer": ({"duration": {"hours": 1}}, None),
    "WeightAveraging": ({}, None),
}


def test_every_callback_of_lightning_is_tried() -> None:
    abstract = {"BaseFinetuning", "Checkpoint"}
    assert set(lightning_callbacks.__all__) - abstract <= CALLBACKS.keys()


@pytest.mark.parametrize("name", sorted(set(lightning_callbacks.__all__) & CALLBACKS.keys()))
def test_a_callback_of_lightning_works_or_is_refused_with_one_line(
    name: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, refusal = CALLBACKS[name]
    callback = getattr(lightning_callbacks, name)(**options)
    if refusal is not None:
        with pytest.raises(UserError, match=refusal) as refused:
            run_with(text, tmp_path / "run", callback=callback)
        assert len(str(refused.value).splitlines()) == 1
        return
    if name == "ThroughputMonitor":
        monkeypatch.setattr(LanguageModel, "flops_per_batch", None, raising=False)  # as Lightning's docs ask
    run_with(text, tmp_path / "run", callback=callback)
    assert Run.read(tmp_path / "run")["status"] == "finished"
    metrics = (tmp_path / "run" / "metrics.csv").read_text()
    if name == "LearningRateMonitor":
        assert "lr-AdamW" in metrics
    if name == "ModelCheckpoint":
        names = {path.name for path in (tmp_path / "run").rglob("*step=*.ckpt")}
        assert names == {f"epoch=0-step={step}.ckpt" for step in (2, 4, 6)}
    if name == "EMAWeightAveraging":
        assert callback._average_model is not None
        assert callback._average_model.n_averaged > N_STEPS - 2


# Every flag of the Trainer: a value to try, and the words of the refusal if it is refused.
FLAGS: dict[str, tuple[str, str | None]] = {
    "accelerator": ("cpu", "hardware.accelerator"),
    "strategy": ("ddp", "hardware.strategy"),
    "devices": ("1", "hardware.devices"),
    "num_nodes": ("1", "hardware"),
    "precision": ("bf16-mixed", "hardware.precision"),
    "logger": ("false", "group logger"),
    "callbacks": ("[]", "group callbacks"),
    "fast_dev_run": ("true", "debug=fast"),
    "max_epochs": ("1", None),
    "min_epochs": ("1", "trainer.max_steps"),
    "max_steps": ("4", None),
    "min_steps": ("2", "trainer.max_steps"),
    "max_time": ("'00:01:00:00'", None),
    "limit_train_batches": ("2", None),
    "limit_val_batches": ("1", "data.estimate_batches"),
    "limit_test_batches": ("1", "tests nothing"),
    "limit_predict_batches": ("1", "predicts nothing"),
    "overfit_batches": ("1", "debug=overfit"),
    "val_check_interval": ("2", None),
    "check_val_every_n_epoch": ("null", None),
    "num_sanity_val_steps": ("1", None),
    "log_every_n_steps": ("1", None),
    "enable_checkpointing": ("true", None),
    "enable_progress_bar": ("false", None),
    "enable_model_summary": ("false", None),
    "accumulate_grad_batches": ("2", None),
    "gradient_clip_val": ("0.5", None),
    "gradient_clip_algorithm": ("value", None),
    "deterministic": ("true", None),
    "benchmark": ("false", None),
    "inference_mode": ("false", "evaluations"),
    "use_distributed_sampler": ("false", None),
    "profiler": ("simple", None),
    "detect_anomaly": ("true", None),
    "barebones": ("true", "fast=true logger=none"),
    "plugins": ("[]", "use hardware"),
    "sync_batchnorm": ("false", None),
    "reload_dataloaders_every_n_epochs": ("1", None),
    "default_root_dir": ("elsewhere", "hydra.run.dir"),
    "enable_autolog_hparams": ("false", None),
    "model_registry": ("null", "registers no model"),
}


def test_every_flag_of_the_trainer_is_tried() -> None:
    assert set(inspect.signature(L.Trainer).parameters) == FLAGS.keys()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_of_the_trainer_works_or_is_refused_with_one_line(flag: str, text: Path, tmp_path: Path) -> None:
    value, refusal = FLAGS[flag]
    override = f"++trainer.{flag}={value}"
    try:
        if refusal is not None:
            with pytest.raises(UserError, match=refusal) as refused:
                run_with(text, tmp_path / "run", override)
            assert len(str(refused.value).splitlines()) == 1
            return
        trainer, _ = run_with(text, tmp_path / "run", override)
        result = Run.read(tmp_path / "run")
        assert result["status"] == "finished"
        assert result["step"] == {"max_steps": 4}.get(flag, N_STEPS)
        if flag == "limit_train_batches":
            assert trainer.current_epoch == N_STEPS // 2 - 1 or trainer.current_epoch == N_STEPS // 2
        if flag == "log_every_n_steps":
            assert chosen_path(trainer) == "fast"
            lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
            assert sum("train/loss" in line for line in lines) == N_STEPS
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("net", [Bigram(vocab_size=7), GPT(vocab_size=7, dropout=0.1)])
def test_module_and_data_module_can_be_copied_and_pickled(net: torch.nn.Module, text: Path) -> None:
    module = LanguageModel(net)
    data = TextDataModule(path=str(text), stream="shuffled")
    for clone in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert all(torch.equal(a, b) for a, b in zip(clone.parameters(), module.parameters(), strict=True))
        assert clone.hparams == module.hparams
    first = next(data.train_batches())
    for copied in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert copied.hparams == data.hparams
        assert torch.equal(next(copied.train_batches())[0], next(copy.deepcopy(data).train_batches())[0])
    assert first[0].shape == (32, 8)


class LogOften(L.Callback):
    """A user's callback that logs metrics of its own."""

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("mine/evaluation", float(trainer.global_step))


class LogSteps(LogOften):
    """The same, at every step too."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        pl_module.log("mine/step", float(trainer.global_step))


def logged(run_dir: Path, name: str) -> list[tuple[int, float]]:
    rows = [line.split(",") for line in (run_dir / "metrics.csv").read_text().splitlines()[1:]]
    return [(int(step), float(value)) for step, metric, value in rows if metric == name]


def test_what_others_log_is_recorded_as_lightning_records_it(text: Path, tmp_path: Path) -> None:
    fast, _ = run_with(text, tmp_path / "fast", callback=LogOften())
    plain, _ = run_with(text, tmp_path / "plain", "trainer.log_every_n_steps=1", callback=LogSteps())
    assert (chosen_path(fast), chosen_path(plain)) == ("fast", "plain")
    # In a training Lightning counts one step less.
    expected = [(0, 0.0), (2, 3.0), (5, 6.0)]
    assert logged(tmp_path / "fast", "mine/evaluation") == logged(tmp_path / "plain", "mine/evaluation") == expected
    assert logged(tmp_path / "plain", "mine/step") == [(step - 1, float(step)) for step in range(1, N_STEPS + 1)]


def test_clipping_by_value_clips_by_value(text: Path, tmp_path: Path) -> None:
    clip = "trainer.gradient_clip_val=1e-4"
    seen: dict[str, float] = {}

    class LargestGradient(L.Callback):
        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
            gradients = [p.grad.abs().max() for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                seen[str(trainer.gradient_clip_algorithm)] = float(max(gradients))

    run_with(text, tmp_path / "value", clip, "+trainer.gradient_clip_algorithm=value", callback=LargestGradient())
    assert next(iter(seen.values())) == pytest.approx(1e-4)  # by norm, none of them would be as large


def test_a_time_interval_saves_checkpoints(text: Path, tmp_path: Path) -> None:
    callback = lightning_callbacks.ModelCheckpoint(train_time_interval=timedelta(milliseconds=1), save_top_k=-1)
    trainer, _ = run_with(text, tmp_path / "run", callback=callback)
    assert chosen_path(trainer) == "plain"
    assert callback.best_model_path


STOCK: list[dict[str, Any]] = [
    {"max_steps": 5},
    {"max_epochs": 1, "limit_train_batches": 5},
    {"max_epochs": 2, "limit_train_batches": 3},
    {"max_steps": 4, "accumulate_grad_batches": 2},
    {"max_steps": 4, "gradient_clip_val": 0.5},
    {"max_steps": 4, "precision": "bf16-mixed"},
    {"fast_dev_run": True},
]


@pytest.mark.parametrize("flags", STOCK, ids=str)
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*sync_dist.*")
@pytest.mark.filterwarnings("ignore:.*exists and is not empty.*", "ignore:.*logging interval.*")
@pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*")
@pytest.mark.filterwarnings("ignore:.*already includes.*", "ignore:.*tensorboardX.*", "ignore:.*treespec.*")
def test_both_train_under_a_stock_trainer(flags: dict[str, Any], text: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = TextDataModule(path=str(text), batch_size=4, estimate_batches=2)
    module = LanguageModel(GPT(vocab_size=data.tokenizer.vocab_size, n_layer=1))
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = L.Trainer(
        accelerator="cpu", devices=1, default_root_dir=tmp_path, enable_progress_bar=False, logger=False, **flags
    )
    trainer.fit(module, data)
    steps = {"fast_dev_run": 1}.get(next(iter(flags)))
    expected = steps or flags.get("max_steps") or flags["max_epochs"] * flags["limit_train_batches"]
    assert trainer.global_step == expected
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    (*_, metrics) = trainer.validate(module, data, verbose=False)
    assert metrics["val/loss"] > 0
    if "fast_dev_run" not in flags:
        trainer.save_checkpoint(tmp_path / "model.ckpt")
        loaded = LanguageModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))
        logits: Tensor = loaded(torch.zeros(1, 8, dtype=torch.long))
        assert logits.shape == (1, 8, data.tokenizer.vocab_size)


def stock_trainer(tmp_path: Path, **flags: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path,
        **{
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "logger": False,
            **flags,
        },
    )


STOCK_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*sync_dist.*",
    "ignore:.*logging interval.*",
    "ignore:.*exists and is not empty.*",
    "ignore:.*treespec.*",
    "ignore:.*LeafSpec.*",
    "ignore:.*will not be logged.*",
    "ignore:.*log_every_n_steps.*",
    "ignore:.*barebones.*",
)


@STOCK_WARNINGS
def test_a_stock_trainer_validates_tests_and_predicts(text: Path, tmp_path: Path) -> None:
    data = TextDataModule(path=str(text), estimate_batches=2)
    module = LanguageModel(GPT(vocab_size=data.tokenizer.vocab_size, n_layer=1))
    trainer = stock_trainer(tmp_path, max_steps=2)
    trainer.fit(module, data)
    exact = trainer.validate(module, data, verbose=False)[-1]["val/loss"]
    (tested,) = trainer.test(module, data, verbose=False)
    assert tested["test/loss"] == pytest.approx(exact, abs=1e-5)
    logits = trainer.predict(module, data)
    assert sum(batch.shape[0] * batch.shape[1] for batch in logits) == len(data.val_tokens) - 1
    assert {batch.shape[2] for batch in logits} == {data.tokenizer.vocab_size}


@STOCK_WARNINGS
@pytest.mark.parametrize("flags", [{"log_every_n_steps": 0}, {"barebones": True}], ids=str)
def test_a_stock_trainer_that_logs_nothing_trains(flags: dict[str, Any], text: Path, tmp_path: Path) -> None:
    data = TextDataModule(path=str(text), estimate_batches=2)
    trainer = stock_trainer(tmp_path, max_steps=3, **({**flags, "enable_progress_bar": False}))
    trainer.fit(LanguageModel(GPT(vocab_size=data.tokenizer.vocab_size, n_layer=1)), data)
    assert trainer.global_step == 3


@STOCK_WARNINGS
def test_lightnings_tuner_finds_a_learning_rate_and_a_batch_size(text: Path, tmp_path: Path) -> None:
    data = TextDataModule(path=str(text), estimate_batches=2)
    module = LanguageModel(GPT(vocab_size=data.tokenizer.vocab_size, n_layer=1))
    found = Tuner(stock_trainer(tmp_path, max_steps=300)).lr_find(module, datamodule=data, num_training=40)
    assert found is not None
    assert module.lr == found.suggestion()
    largest = Tuner(stock_trainer(tmp_path, max_steps=3)).scale_batch_size(module, datamodule=data, max_trials=2)
    assert largest == data.batch_size == 4
    trainer = stock_trainer(tmp_path, max_steps=1)
    trainer.fit(module, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == module.lr


def test_batches_need_no_trainer(text: Path) -> None:
    data = TextDataModule(path=str(text), estimate_batches=2)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == y.shape == (32, 8)
    assert len(data.train_dataloader()) == len(data.train_tokens) // (32 * 8)
    assert len(data.val_dataloader()) == 3


@pytest.mark.slow
def test_a_compiled_module_computes_the_same(text: Path) -> None:
    module = LanguageModel(GPT(n_layer=1)).eval()
    idx = torch.randint(65, (2, 8))
    assert torch.allclose(torch.compile(module)(idx), module(idx), atol=1e-5)


NUMBERED = {"val/loss/dataloader_idx_0", "val/loss/dataloader_idx_1"}


@pytest.mark.parametrize(
    ("loaders_of", "names"),
    [
        (lambda loader: loader, {"val/loss"}),
        (lambda loader: [loader, loader], NUMBERED),
        (lambda loader: (loader, loader), NUMBERED),
        (lambda loader: {"a": loader, "b": loader}, NUMBERED),
    ],
    ids=["one", "list", "tuple", "dict"],
)
def test_validation_loaders_of_a_user_have_the_names_of_lightning(
    text: Path, loaders_of: Callable[[Any], Any], names: set[str]
) -> None:
    data = TextDataModule(path=str(text))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)

    def logged(*arguments: Any, **options: Any) -> set[str]:
        trainer.validate(LanguageModel(Bigram()), *arguments, verbose=False, **options)
        return trainer.logged_metrics.keys() - {"step"}

    ours = {"train/estimate", "val/estimate", "val/loss"}
    assert logged(datamodule=data) == ours
    assert logged(loaders_of(data.test_dataloader())) == names
    assert logged(data.val_dataloader()) == ours
    assert logged([data.val_dataloader()[-1]] * 2) == NUMBERED
