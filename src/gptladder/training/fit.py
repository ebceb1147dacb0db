"""The training of a run, from where it stands to its last step, or to where something stops it."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.profilers import PassThroughProfiler

from gptladder.data.datamodule import TextDataModule
from gptladder.evaluation.loss import bits_per_char
from gptladder.model.gpt import count_parameters
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.runs.config_types import foreign_targets, how_to_name_a_target
from gptladder.runs.configs import describe_run, record_resolved, record_value
from gptladder.runs.identity import config_hash, recipe
from gptladder.runs.published import compare
from gptladder.runs.run import Run, checkpoint_path
from gptladder.system import signals
from gptladder.system.errors import UserError, first_line
from gptladder.training import speed
from gptladder.training.callbacks.text_samples import sample
from gptladder.training.hyperparameters import hyperparameters
from gptladder.training.lightning_module import LanguageModel
from gptladder.training.resume_point import ResumePoint, check_resumable
from gptladder.training.stop_reason import stop_reason

SAMPLE_TOKENS = 300


def fit(trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Train from where the run stands, and record the result; a finished run stays as it is.

    Raises:
        RunConflictError: the run was started with another text, tokenizer, split, protocol or architecture.
        UserError: its checkpoint is incomplete, or a callback does not fit the trainer.
    """
    signals.exit_if_received()
    data.check_divisible(trainer.world_size)
    assert module.metadata is not None
    config = module.metadata["config"]
    last = run.last_checkpoint
    point = None if last is None else check_resumable(last, module, data)
    if run.finished and not (point and point.extends_run):
        return
    _record_start(trainer, module, data, run, point)
    for logger in trainer.loggers:
        if hasattr(logger, "truncate_after"):
            logger.truncate_after(point.step if point else -1)
        logger.log_hyperparams(hyperparameters(config))
    if point is None and config.get("evaluate_first", True):
        trainer.validate(module, data, verbose=False)
    try:
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
    except MisconfigurationException as error:  # before the first step
        raise UserError(f"trainer: {first_line(error)}") from error
    _save_last_step(trainer, module, data, run)
    module.eval()
    run.finish(
        stopped_by=stop_reason(trainer),
        val_bits_per_char=bits_per_char(run.result["val_loss"], tokens_per_char=data.tokens_per_char),
        published=compare(config["rung"], recipe(config, data.corpus_sha256), run.result["curve"]),
        sample=sample(module, data, SAMPLE_TOKENS),
    )


def _record_start(
    trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run, point: ResumePoint | None
) -> None:
    """Record what the run is, in the first process also in its config."""
    assert module.metadata is not None
    config = module.metadata["config"]
    if trainer.is_global_zero:
        record_resolved(run.path, config)
        if point is not None and point.extends_run:
            record_value(run.path, "trainer.max_steps", config["trainer"]["max_steps"])
        _print_notices(trainer, config, point)
    run.start(
        replaces=point.config_hash if point is not None and point.extends_run else None,
        model=config["rung"],
        seed=config["seed"],
        tags=[str(tag) for tag in config.get("tags") or []],
        notes=None if config.get("notes") is None else str(config["notes"]),
        description=describe_run(config["rung"], config["choices"]),
        params=count_parameters(module.net),
        path=speed.chosen_path(trainer),
        config_hash=config_hash(config, data.corpus_sha256),
        corpus_sha256=data.corpus_sha256,
    )


def _print_notices(trainer: L.Trainer, config: dict[str, Any], point: ResumePoint | None) -> None:
    """Say what a user must know before the first step."""
    for target in foreign_targets(config):
        print(
            f"resume= will refuse this run: no config in conf/ names {target}; {how_to_name_a_target()}, now or later"
        )
    if point is not None:
        print(f"resuming at step {point.step:,}")
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, PassThroughProfiler) and profiler.dirpath:
        print(f"the profile will be in {profiler.dirpath}")


def _save_last_step(trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Evaluate and save where the training ended, unless that was done: Lightning may end between two evaluations."""
    step = trainer.global_step
    if not run.result.get("curve") or run.result["curve"][-1]["step"] != step:
        trainer.validate(module, data, verbose=False)
    last = run.last_checkpoint
    if step and (last is None or read_checkpoint(last)["global_step"] != step):
        trainer.save_checkpoint(checkpoint_path(run.path), weights_only=False)
