"""The training of a run, from where it stands to its last step, or to where something stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler

from gptladder.data.datamodule import TextDataModule
from gptladder.evaluation.loss import bits_per_char
from gptladder.model.gpt import count_parameters
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.runs.config_types import foreign_targets
from gptladder.runs.configs import describe_run, flatten, record_resolved, record_value
from gptladder.runs.identity import config_hash, diff_identity, recipe
from gptladder.runs.naming import SHORT_GROUPS
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

# Top-level keys that describe the launch, or where a run writes.
PATH_KEYS = ("path", "cache", "dirpath", "checkpoint", "run_dir")
DERIVED_KEYS = ("data.seed", "data.block_size")  # which are equal to seed and model.block_size
NOT_HYPERPARAMETERS = ("choices", "run_dir", "sweep", "fresh", "plan", "init_from")


def fit(trainer: L.Trainer, module: LanguageModel, data: TextDataModule, run: Run) -> None:
    """Train from where the run stands, and record the result; a finished run stays as it is.

    Raises:
        RunConflictError: the run was started with another text, tokenizer, split, protocol or architecture.
    """
    signals.exit_if_received()
    data.check_divisible(trainer.world_size)
    assert module.metadata is not None
    config = module.metadata["config"]
    is_longer = False
    if run.last_checkpoint is not None:
        is_longer = _check_resumable(module, data, run.last_checkpoint)
    if run.finished and not is_longer:
        return
    if is_first_process():
        record_resolved(run.path, config)
        if is_longer:
            record_value(run.path, "trainer.max_steps", config["trainer"]["max_steps"])
        for target in foreign_targets(config):
            print(
                f"resume= will refuse this run: no config in conf/ names {target}; "
                "name it in a file such as conf/callbacks/mine.yaml, now or later"
            )
    run.start(
        replaces=_hash_of(run.last_checkpoint) if is_longer else None,
        model=config["rung"],
        seed=config["seed"],
        description=describe_run(config["rung"], config["choices"]),
        params=count_parameters(module.net),
        path=speed.chosen_path(trainer),
        config_hash=config_hash(config, data.corpus_sha256),
        corpus_sha256=data.corpus_sha256,
    )
    if run.last_checkpoint is not None and trainer.is_global_zero:
        print(f"resuming at step {read_checkpoint(run.last_checkpoint)['global_step']:,}")
    for logger in trainer.loggers:
        _set_up_logger(logger, config, run)
    if run.last_checkpoint is None and config.get("evaluate_first", True):
        trainer.validate(module, data, verbose=False)
    try:
        trainer.fit(module, data, ckpt_path=run.last_checkpoint, weights_only=True)
    except MisconfigurationException as error:  # a callback that does not fit the trainer, before the first step
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    _save_last_step(trainer, module, data, run)
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if trainer.is_global_zero and not isinstance(profiler, PassThroughProfiler) and profiler.dirpath:
        print(f"profile: {profiler.dirpath}")
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


def _asks_for_more_steps() -> bool:
    """Whether the command is ``resume=DIR trainer.max_steps=N``, not a config that changed behind the run's back."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return any(override.startswith("trainer.max_steps=") for override in overrides)


def _hash_of(checkpoint: Path | None) -> str | None:
    if checkpoint is None:
        return None
    metadata = read_checkpoint(checkpoint)["gptladder"]
    return config_hash(metadata["config"], metadata["corpus_sha256"])


def _check_resumable(module: LanguageModel, data: TextDataModule, path: Path) -> bool:
    """Check that a checkpoint is complete, and of the same training but for more steps; returns whether it has more."""
    checkpoint = read_checkpoint(path)
    assert module.metadata is not None
    max_steps, step = module.metadata["config"]["trainer"]["max_steps"], checkpoint.get("global_step", 0)
    changes = diff_identity(checkpoint["gptladder"], module.metadata)
    others = [change for change in changes if not change.startswith("max_steps ")]
    if others or (changes and not (_asks_for_more_steps() and max_steps > step)):
        raise RunConflictError(
            f"cannot resume from {path}: {'; '.join(changes)}; restore what changed, or start a new run"
        )
    missing = missing_parts(checkpoint, module.net, data)
    if missing:
        listed = ", ".join(missing[:5]) + (", …" if missing[5:] else "")
        raise UserError(f"cannot resume from {path}: it lacks {listed}; restore another copy, or start a new run")
    return bool(changes)


def _set_up_logger(logger: Logger, config: dict[str, Any], run: Run) -> None:
    if hasattr(logger, "truncate_after"):
        last = run.last_checkpoint
        logger.truncate_after(read_checkpoint(last)["global_step"] if last else -1)
    logger.log_hyperparams(hyperparameters(config))


def hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """Every value of a config but null, paths, import paths and what describes the launch.

    The keys are those in the names of jobs.
    """
    shown = {}
    for key, value in flatten({name: part for name, part in config.items() if name not in NOT_HYPERPARAMETERS}):
        group, _, name = key.rpartition(".")
        is_path = name in PATH_KEYS or (isinstance(value, str) and "/" in value)
        if not (value is None or is_path or name.startswith("_") or key in DERIVED_KEYS):
            plain = value if type(value) in (bool, int, float, str) else str(value)
            shown[name if group in SHORT_GROUPS else key] = plain
    return shown
