"""The training of a run, from where it stands to its last step, or to where something stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.loggers import Logger

from gptladder.data.datamodule import TextDataModule
from gptladder.evaluation.loss import bits_per_char
from gptladder.model.gpt import count_parameters
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.runs.config_types import foreign_targets
from gptladder.runs.configs import describe_run, record_resolved
from gptladder.runs.identity import config_hash, diff_identity, recipe
from gptladder.runs.published import compare
from gptladder.runs.run import Run, is_first_process
from gptladder.system import signals
from gptladder.system.errors import RunConflictError, UserError
from gptladder.training import speed
from gptladder.training.callbacks.text_samples import sample
from gptladder.training.completeness import missing_parts
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.stop_reason import stop_reason

SAMPLE_TOKENS = 300


def fit(trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Train from where the run stands, and record the result; a finished run stays as it is.

    Raises:
        RunConflictError: the run was started with another text, tokenizer, split, protocol or architecture.
    """
    signals.exit_if_received()
    data.check_divisible(trainer.world_size)
    assert module.metadata is not None
    if run.last_checkpoint is not None:
        _check_resumable(module, data, run.last_checkpoint)
    if run.finished:
        return
    config = module.metadata["config"]
    if is_first_process():
        record_resolved(run.path, config)
        for target in foreign_targets(config):
            print(
                f"resume= will refuse this run: no config in conf/ names {target}; "
                "name it in a file such as conf/callbacks/mine.yaml, now or later"
            )
    run.start(
        model=config["rung"],
        seed=config["seed"],
        description=describe_run(config["rung"], config["choices"]),
        params=count_parameters(module.net),
        path=speed.chosen_path(trainer),
        config_hash=config_hash(config, data.corpus_sha256),
        corpus_sha256=data.corpus_sha256,
    )
    for logger in trainer.loggers:
        _set_up_logger(logger, config, run)
    if run.last_checkpoint is None and config.get("evaluate_first", True):
        trainer.validate(module, data, verbose=False)
    trainer.fit(module, data, ckpt_path=run.last_checkpoint, weights_only=True)
    _save_last_step(trainer, module, data, run)
    module.eval()
    run.finish(
        stopped_by=stop_reason(trainer),
        val_bits_per_char=bits_per_char(run.result["val_loss"], tokens_per_char=data.tokens_per_char),
        published=compare(config["rung"], recipe(config, data.corpus_sha256), run.result["curve"]),
        sample=sample(module, data, SAMPLE_TOKENS),
    )


def _save_last_step(trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Evaluate and save where the training ended, unless that was done: Lightning may end between two evaluations."""
    step = trainer.global_step
    if not run.result.get("curve") or run.result["curve"][-1]["step"] != step:
        trainer.validate(module, data, verbose=False)
    last = run.last_checkpoint
    if step and (last is None or read_checkpoint(last)["global_step"] != step):
        trainer.save_checkpoint(run.checkpoints / "last.ckpt", weights_only=False)


def _check_resumable(module: LanguageModel, data: TextDataModule, path: Path) -> None:
    checkpoint = read_checkpoint(path)
    assert module.metadata is not None
    changes = diff_identity(checkpoint["gptladder"], module.metadata)
    if changes:
        raise RunConflictError(
            f"cannot resume from {path}: {'; '.join(changes)}; restore what changed, or start a new run"
        )
    missing = missing_parts(checkpoint, module.net, data)
    if missing:
        listed = ", ".join(missing[:5]) + (", …" if missing[5:] else "")
        raise UserError(f"cannot resume from {path}: it lacks {listed}; restore another copy, or start a new run")


def _set_up_logger(logger: Logger, config: dict[str, Any], run: Run) -> None:
    if hasattr(logger, "truncate_after"):
        last = run.last_checkpoint
        logger.truncate_after(read_checkpoint(last)["global_step"] if last else -1)
    values = {"rung": config["rung"], "seed": config["seed"], **config["model"]}
    values |= {"batch_size": config["data"]["batch_size"], "lr": config["optimizer"]["lr"]}
    logger.log_hyperparams({key: value for key, value in values.items() if key != "_target_" and value is not None})
