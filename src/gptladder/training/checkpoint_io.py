"""Atomic checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gptladder.runs.checkpoint import read_checkpoint
from gptladder.system.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints to a temporary file and moves it into place when it is complete.

    Lightning 2.6 stages in the system's temporary directory and copies from there, so that a kill can leave
    a truncated file in place of the last good checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save; raises ``FloatingPointError`` if a weight or a moment is not finite."""
        for key in ("state_dict", "optimizer_states"):
            if not _is_finite(checkpoint.get(key)):
                raise FloatingPointError(f"{key} contains NaN or infinity; {path} was not overwritten")
        with atomic_write(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error for a file that a full disk truncated
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read plain containers and tensors only, also those that version 0.1 wrote."""
        return read_checkpoint(path)


def _is_finite(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_is_finite, value.values()))
        case list() | tuple():
            return all(map(_is_finite, value))
        case torch.Tensor() if value.is_floating_point():
            return bool(value.isfinite().all())
        case _:
            return True
