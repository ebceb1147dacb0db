"""Checkpoints, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gptladder.system.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, moved into place only when complete.

    Lightning 2.6 stages in the system's temporary directory and copies from there, so that a kill can leave a
    stub in the place of the last good checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save, and refuse weights or moments that are no numbers with a ``FloatingPointError``."""
        for key in ("state_dict", "optimizer_states"):
            if not _finite(checkpoint.get(key)):
                raise FloatingPointError(f"{key} holds no finite numbers any more: {path} stays as it is")
        with atomic_write(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's own complaint of a file that the disk cut short
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _finite(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_finite, value.values()))
        case list() | tuple():
            return all(map(_finite, value))
        case torch.Tensor() if value.is_floating_point():
            return bool(value.isfinite().all())
        case _:
            return True
