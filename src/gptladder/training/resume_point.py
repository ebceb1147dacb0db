"""Where a resumed run continues, after the check that its checkpoint belongs to it and is complete."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig

from gptladder.data.datamodule import TextDataModule
from gptladder.runs.checkpoint import read_checkpoint
from gptladder.runs.identity import config_hash, diff_identity
from gptladder.system.errors import RunConflictError, UserError
from gptladder.training.completeness import missing_parts
from gptladder.training.lightning_module import LanguageModel

MAX_LISTED = 5  # missing parts in a message


class ResumePoint(NamedTuple):
    """The step of a checkpoint, the hash of its config, and whether the run is to take more steps than that config."""

    step: int
    config_hash: str
    extends_run: bool


def check_resumable(checkpoint: Path, module: LanguageModel, data: TextDataModule) -> ResumePoint:
    """Check that a run can continue from a checkpoint.

    Raises:
        RunConflictError: it is of another text, tokenizer, split, protocol or architecture.
        UserError: it is incomplete.
    """
    assert module.metadata is not None
    content = read_checkpoint(checkpoint)
    recorded, step = content["gptladder"], content.get("global_step", 0)
    changes = diff_identity(recorded, module.metadata)
    extends_run = len(changes) == 1 and changes[0].startswith("max_steps ") and _asks_for_more_steps()
    if changes and not (extends_run and module.metadata["config"]["trainer"]["max_steps"] > step):
        raise RunConflictError(
            f"cannot resume from {checkpoint}: {'; '.join(changes)}; restore what changed, or start a new run"
        )
    missing = missing_parts(content, module.net, data)
    if missing:
        listed = ", ".join(missing[:MAX_LISTED]) + (", …" if missing[MAX_LISTED:] else "")
        raise UserError(f"cannot resume from {checkpoint}: it lacks {listed}; restore another copy, or start a new run")
    return ResumePoint(step, config_hash(recorded["config"], recorded["corpus_sha256"]), extends_run)


def _asks_for_more_steps() -> bool:
    """Whether the command is ``resume=DIR trainer.max_steps=N``; a config that was edited does not ask for anything."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return any(override.startswith("trainer.max_steps=") for override in overrides)
