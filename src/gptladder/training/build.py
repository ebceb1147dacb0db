"""From a config to the parts of a run: data module, LightningModule and Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from gptladder.data.datamodule import TextDataModule
from gptladder.model.flops import training_flops_per_token
from gptladder.model.gpt import describe_net
from gptladder.runs.configs import output_places, recorded_choices
from gptladder.runs.init_from import InitialWeights
from gptladder.runs.run import Run
from gptladder.system.commands import is_called_from_python, train_command
from gptladder.system.errors import UserError, first_line
from gptladder.training import speed
from gptladder.training.callback_checks import check_callbacks
from gptladder.training.callbacks.nonfinite import NonFiniteGuard
from gptladder.training.callbacks.result_writer import ResultWriter
from gptladder.training.checkpoint_io import AtomicCheckpointIO, check_states
from gptladder.training.construct import construct
from gptladder.training.hardware import Hardware
from gptladder.training.lightning_module import LanguageModel

Part = TypeVar("Part")

# Trainer arguments that would change what an evaluation means here, or that another key sets; with that key.
REFUSED_ARGUMENTS = {
    "limit_val_batches": "use data.estimate_batches for a shorter estimate",
    "overfit_batches": "use data.overfit_windows or debug=overfit",
    "fast_dev_run": "use debug=fast",
    "accelerator": "use hardware.accelerator",
    "devices": "use hardware.devices",
    "num_nodes": "use hardware with a launcher",
    "strategy": "use hardware.strategy",
    "precision": "use hardware.precision",
    "plugins": "use hardware",
    "callbacks": "use the group callbacks",
    "logger": "use the group logger",
    "default_root_dir": "use hydra.run.dir",
    "min_steps": "use trainer.max_steps",
    "min_epochs": "use trainer.max_steps",
    "limit_test_batches": "a run tests nothing",
    "limit_predict_batches": "a run predicts nothing",
    "model_registry": "a run registers no model",
    "inference_mode": "evaluations choose it themselves",
    "barebones": "use fast=true logger=none",
}


def build_datamodule(cfg: DictConfig) -> TextDataModule:
    """The text of a run, encoded and split."""
    if cfg.data.block_size != cfg.model.block_size:
        raise UserError(f"data.block_size={cfg.data.block_size} is derived: set model.block_size instead")
    initial = InitialWeights.from_config(resolve(cfg))
    data: TextDataModule = construct(cfg.data, tokenizer=initial.tokenizer if initial else construct(cfg.tokenizer))
    return data


def build_module(cfg: DictConfig, data: TextDataModule) -> LanguageModel:
    """The network of a run with its optimizer and schedule, randomly initialized or from another run."""
    check_step_counts(cfg)
    speed.check_fast(cfg.fast)
    net = construct(cfg.model, vocab_size=data.tokenizer.vocab_size)
    config = resolve(cfg)
    initial = InitialWeights.from_config(config)
    if initial is not None:
        initial.load_into(net)
        config["init_from"] = {"run": initial.name, "sha256": initial.sha256}
    optimizer = _construct_factory(cfg, "optimizer", example="adamw")
    scheduler = _construct_factory(cfg, "scheduler", example="linear") if cfg.scheduler else None
    # A trial: Lightning builds them when the run has started, too late for a user error.
    trial = _try_out("optimizer", optimizer, net.named_parameters())
    if scheduler is not None:
        _try_out("scheduler", scheduler, trial, max_steps=cfg.trainer.max_steps)
    metadata = {
        "config": config,
        "net": describe_net(net),
        "tokenizer": data.tokenizer.state_dict(),
        "corpus_sha256": data.corpus_sha256,
    }
    return LanguageModel(net, optimizer=optimizer, scheduler=scheduler, metadata=metadata)


def _construct_factory(cfg: DictConfig, key: str, *, example: str) -> Any:
    """What builds the optimizer, or the schedule, of a config."""
    if "_target_" not in (cfg[key] or {}):
        given = f" but has {', '.join(map(str, cfg[key]))}" if cfg[key] else ""
        raise UserError(f"{key} has no _target_{given}: choose one, as in {key}={example}")
    return construct(cfg[key])


def _try_out(key: str, build: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return build(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {error}: change it, or remove it") from error


def build_trainer(
    cfg: DictConfig,
    module: LanguageModel,
    data: TextDataModule,
    run: Run,
    *,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Lightning's Trainer with the hardware, loggers and callbacks of a run, on the fast path where that is possible.

    Args:
        callbacks: further callbacks, after those of the config.

    Raises:
        UserError: the machine lacks the hardware, or Lightning or this project refuses an argument.
    """
    _silence_lightning()
    _check_arguments(cfg)
    _check_outputs(resolve(cfg), run.path)
    hardware: Hardware = construct(cfg.hardware)
    hardware.configure(module.net)
    compiled = hardware.compiles(module.net)
    loggers = _constructed(cfg, "logger", Logger)
    try:
        trainer: L.Trainer = construct(cfg.trainer, _partial_=True)(
            **hardware.trainer_kwargs(),
            # Lightning evaluates without inference mode during a training: PyTorch would compile each shape twice.
            **({"inference_mode": False} if compiled else {}),
            # Lightning counts batches, the config steps.
            val_check_interval=cfg.trainer.val_check_interval * cfg.trainer.accumulate_grad_batches,
            callbacks=_build_callbacks(cfg, module, run, callbacks, has_logger=bool(loggers)),
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run.path,
        )
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UserError(f"trainer: {first_line(error)}") from error
    if trainer.world_size > 1:
        _check_processes(trainer.world_size, hardware, run)
    elif hardware.accelerator == "cpu" and not compiled:
        speed.use_fast_kernels(module.net, cfg.fast)
    speed.choose_loops(trainer, module, data, cfg.fast, threads=hardware.evaluation_threads(module.net))
    return trainer


def _check_processes(n_processes: int, hardware: Hardware, run: Run) -> None:
    """Refuse what would start several processes in a way that cannot work."""
    if is_called_from_python():
        raise UserError(
            f"{n_processes} processes would each run this program again: use one device, or the command "
            f"{train_command(f'hardware.devices={hardware.devices}', f'hardware.strategy={hardware.strategy}')}"
        )
    if {'"', "\\"} & set(str(run.path)):
        raise UserError(f"hydra.run.dir={run.path} has a quote or a backslash, which Lightning gets wrong: rename it")


def _build_callbacks(
    cfg: DictConfig, module: LanguageModel, run: Run, further: Sequence[L.Callback], *, has_logger: bool
) -> list[L.Callback]:
    """Those that record the run and guard it, those of the config, and further ones."""
    callbacks = [*_constructed(cfg, "callbacks", L.Callback), *further]
    check_states({callback.state_key: callback.state_dict() for callback in callbacks})
    check_callbacks(
        callbacks,
        has_logger=has_logger,
        log_every_n_steps=cfg.trainer.log_every_n_steps,
        val_check_interval=cfg.trainer.val_check_interval,
    )
    tokens_per_step = cfg.data.batch_size * cfg.trainer.accumulate_grad_batches * cfg.model.block_size
    # A warm-up of the sequence length has shorter windows at first.
    known = not cfg.data.get("sequence_length_warmup")
    flops_per_token = training_flops_per_token(module.net, cfg.model.block_size) if known else 0
    writer = ResultWriter(run, tokens_per_step=tokens_per_step, flops_per_token=flops_per_token)
    # The guard first: reading from a GPU waits for it, so that the times of the writer are those of finished steps.
    return [NonFiniteGuard(), writer, *callbacks]


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """A config as plain values, with the choices of its groups as Hydra recorded them in the run directory."""
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return {**{str(key): value for key, value in config.items()}, "choices": recorded_choices(Path(config["run_dir"]))}


def check_step_counts(cfg: DictConfig) -> None:
    """Raise a ``UserError`` if a key that counts steps is not a positive integer."""
    for key in ("max_steps", "val_check_interval", "accumulate_grad_batches", "log_every_n_steps"):
        if type(cfg.trainer[key]) is not int or cfg.trainer[key] < 1:
            raise UserError(f"trainer.{key}={cfg.trainer[key]} must be an integer >= 1")


def _check_outputs(config: dict[str, Any], run_dir: Path) -> None:
    """Refuse to write into another run's directory."""
    for key, value, path in output_places(config):
        if path.is_relative_to(run_dir.absolute()):
            continue
        other = next((parent for parent in (path, *path.parents) if (parent / "result.json").exists()), None)
        if other is not None:
            raise UserError(f"{key}={value} lies in another run, {other}: choose another place")


def _constructed(cfg: DictConfig, group: str, kind: Callable[..., Part]) -> list[Part]:
    """The objects of a group without those that are null."""
    parts = {key: part for key, part in construct(cfg[group]).items() if part is not None}
    for key, part in parts.items():
        assert isinstance(kind, type)
        if not isinstance(part, kind):
            raise UserError(
                f"{group}.{key} is a {type(part).__name__}, not a Lightning {kind.__name__}: "
                f"give {group}.{key}._target_ the path of a class, or remove {group}.{key}"
            )
    return list(parts.values())


def _check_arguments(cfg: DictConfig) -> None:
    for key, remedy in REFUSED_ARGUMENTS.items():
        if key in cfg.trainer:
            raise UserError(f"trainer.{key}={cfg.trainer[key]} is not possible here: {remedy}")
    if cfg.trainer.get("deterministic") not in (None, True, False, "warn"):
        raise UserError(f"trainer.deterministic={cfg.trainer.deterministic} must be true, false or warn")
    for key in ("max_epochs", "limit_train_batches"):
        if cfg.trainer.get(key) == 0:
            raise UserError(f"trainer.{key}=0 leaves nothing to train: leave it out")


def _silence_lightning() -> None:
    """Silence messages and warnings of Lightning that do not apply here."""
    # "GPU available", tips for other products, "max_steps reached": our own lines say what matters.
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.distributed",
        "lightning.pytorch.tuner.lr_finder",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls torch 2.13 in a deprecated way.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    # A run computes in the precision that its config says; TF32 has fewer digits than fp32.
    warnings.filterwarnings("ignore", message=".*TensorFloat32 tensor cores.*")
    for message in (
        "your dataloader is not resumable",  # the data module keeps the state of every stream
        "exists and is not empty",  # the checkpoints of the run that is resumed
        "smaller than the logging interval",  # a run of a few steps
        "recommended to use .self.log.*sync_dist",  # the losses are summed over all processes already
        "called without a model",  # the evaluation before the first step has set it
        "there is no last checkpoint available",  # a new run with Lightning's OnExceptionCheckpoint
        "does not have many workers",  # batches are slices of memory
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
