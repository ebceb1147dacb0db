"""From a config to the parts of a run: data, learner, trainer."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from gptladder.data.datamodule import TextDataModule
from gptladder.data.stretch import steps_per_stretch
from gptladder.evaluation.loss import bits_per_char
from gptladder.model.gpt import count_parameters
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.runs.identity import config_hash, differences, recipe
from gptladder.runs.init_from import Start
from gptladder.runs.published import compare
from gptladder.runs.run import Run
from gptladder.system.errors import RunConflictError, UserError
from gptladder.training.callbacks.record import Record
from gptladder.training.callbacks.samples import sample
from gptladder.training.checkpoint_io import AtomicCheckpointIO
from gptladder.training.lightning_module import LanguageModel

SAMPLE_TOKENS = 300


def build_datamodule(cfg: DictConfig) -> TextDataModule:
    """The text of a run, encoded and split."""
    if cfg.data.block_size != cfg.model.block_size:
        raise UserError(f"data.block_size={cfg.data.block_size} follows model.block_size: set that one")
    start = Start.of(_resolved(cfg))
    data: TextDataModule = instantiate(cfg.data, tokenizer=start.tokenizer if start else instantiate(cfg.tokenizer))
    return data


def build_module(cfg: DictConfig, data: TextDataModule) -> LanguageModel:
    """The rung of a run, freshly initialised or as another run left it, with its optimizer and schedule."""
    check_steps(cfg)
    net = instantiate(cfg.model, vocab_size=data.tokenizer.vocab_size)
    config = _resolved(cfg)
    start = Start.of(config)
    if start is not None:
        start.fill(net)
        config["init_from"] = {"run": start.name, "sha256": start.sha256}
    record = {
        "config": config,
        "tokenizer": data.tokenizer.state_dict(),
        "corpus_sha256": data.corpus_sha256,
    }
    optimizer, scheduler = instantiate(cfg.optimizer), instantiate(cfg.scheduler) or None
    try:  # once for show: Lightning builds them when the run has begun, too late for a mistake
        trial = optimizer(net.named_parameters())
        if scheduler is not None:
            scheduler(trial, max_steps=cfg.trainer.max_steps)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer and scheduler: {error}") from error
    return LanguageModel(
        net,
        optimizer=optimizer,
        scheduler=scheduler,
        gradient_clip_val=cfg.trainer.gradient_clip_val,
        tokens_per_step=cfg.data.batch_size * cfg.trainer.accumulate_grad_batches * cfg.model.block_size,
        record=record,
    )


def build_trainer(cfg: DictConfig, data: TextDataModule, learner: LanguageModel, run: Run) -> L.Trainer:
    """Lightning's trainer, with the hardware, loggers and callbacks of a run, and the training cut up to suit it.

    Raises:
        UserError: the machine lacks the hardware, or Lightning refuses an argument.
    """
    _hush()
    hardware = instantiate(cfg.hardware)
    hardware.prepare(learner.net)
    learner.side_by_side = hardware.side_by_side(learner.net)
    record = Record(run, tokens_per_step=learner.tokens_per_step)
    data.steps_per_stretch = steps_per_stretch(
        _intervals(cfg), work_per_step=count_parameters(learner.net) * learner.tokens_per_step
    )
    data.batches_per_step = cfg.trainer.accumulate_grad_batches
    data.net_draws = bool(cfg.model.get("dropout"))
    try:
        trainer: L.Trainer = instantiate(cfg.trainer, _partial_=True)(
            **hardware.trainer_arguments(),
            # Lightning counts its batches here, which are stretches, the config steps.
            val_check_interval=cfg.trainer.val_check_interval // data.steps_per_stretch,
            # The learner sees to these two: a stretch has many steps.
            accumulate_grad_batches=1,
            gradient_clip_val=None,
            callbacks=[record, *filter(None, instantiate(cfg.callbacks).values())],
            logger=list(instantiate(cfg.logger).values()),
            plugins=[AtomicCheckpointIO()],
            default_root_dir=run.path,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer: {error}") from error
    return trainer


def fit(trainer: L.Trainer, learner: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Train from where the run stands to its last step, and record what came of it.

    Raises:
        RunConflictError: the run began with another text, tokenizer, split, protocol or architecture.
    """
    data.check_shares(trainer.world_size)
    if run.last_checkpoint is not None:
        _check_same(learner.record, run.last_checkpoint)
    config = learner.record["config"]
    run.begin(
        model=config["rung"],
        seed=config["seed"],
        params=count_parameters(learner.net),
        config_hash=config_hash(config, data.corpus_sha256),
        corpus_sha256=data.corpus_sha256,
    )
    for logger in trainer.loggers:
        _prepare(logger, config, run)
    if run.last_checkpoint is None and config.get("evaluate_first", True):
        trainer.validate(learner, data, verbose=False)
    trainer.fit(learner, data, ckpt_path=run.last_checkpoint, weights_only=True)
    learner.eval()
    run.finish(
        val_bits_per_char=bits_per_char(run.result["val_loss"], tokens_per_char=data.tokens_per_char),
        published=compare(config["rung"], recipe(config, data.corpus_sha256), run.result["curve"]),
        sample=sample(learner.net, data, SAMPLE_TOKENS),
    )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _check_same(record: dict[str, Any], checkpoint: Path) -> None:
    different = differences(read_checkpoint(checkpoint)["gptladder"], record)
    if different:
        raise RunConflictError(
            f"{checkpoint} cannot be gone on with: {'; '.join(different)}: put back what changed, or start another run"
        )


def _hush() -> None:
    """Silence what Lightning says that does not apply here."""
    # "GPU available", tips for other products, "max_steps reached": our own lines say what matters.
    for chatter in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.distributed",
        "lightning.pytorch.tuner.lr_finder",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    # Lightning 2.6 asks torch 2.13 in a way that is on its way out; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    for inapplicable in (
        "your dataloader is not resumable",  # the data module, not the loader, knows where each stream stands
        "exists and is not empty",  # the checkpoints of the run that goes on
        "smaller than the logging interval",  # a run of a few steps is meant to be one
        "recommended to use .self.log.*sync_dist",  # the measures are summed over all processes already
    ):
        warnings.filterwarnings("ignore", message=f".*{inapplicable}.*")


def _intervals(cfg: DictConfig) -> list[int]:
    """Every so many steps something looks at the run: an evaluation, a callback that saves."""
    saving = [callback.get("every_n_train_steps") for callback in cfg.callbacks.values() if callback]
    return [cfg.trainer.val_check_interval, *filter(None, saving)]


def check_steps(cfg: DictConfig) -> None:
    """Raise a ``UserError`` if a key that counts steps is not a count."""
    for key in ("max_steps", "val_check_interval", "accumulate_grad_batches", "log_every_n_steps"):
        if type(cfg.trainer[key]) is not int or cfg.trainer[key] < 1:
            raise UserError(f"trainer.{key}={cfg.trainer[key]} must be a whole number of at least 1")


def _prepare(logger: Logger, config: dict[str, Any], run: Run) -> None:
    if hasattr(logger, "truncate_after"):
        last = run.last_checkpoint
        logger.truncate_after(read_checkpoint(last)["global_step"] if last else -1)
    shown = {"rung": config["rung"], "seed": config["seed"], **config["model"]}
    shown |= {"batch_size": config["data"]["batch_size"], "lr": config["optimizer"]["lr"]}
    logger.log_hyperparams({key: value for key, value in shown.items() if key != "_target_" and value is not None})
