"""Atomic checkpoint files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from gptladder.runs.checkpoint import read_checkpoint
from gptladder.system.errors import UserError, first_line
from gptladder.system.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints to a temporary file and moves it into place when it is complete.

    Lightning 2.6 stages in the system's temporary directory and copies from there, so that a kill can leave
    a truncated file in place of the last good checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save.

        Raises:
            FloatingPointError: a weight or a moment is not finite.
            UserError: the state of a callback could not be read again.
        """
        check_states(checkpoint.get("callbacks", {}))
        for key in ("state_dict", "optimizer_states"):
            if not _is_finite(checkpoint.get(key)):
                raise FloatingPointError(f"{key} contains NaN or infinity; {path} was not overwritten")
        with atomic_write(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error for a file that a full disk truncated
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read plain containers and tensors only, also those of version 0.1, and of a run that was moved since."""
        checkpoint, directory = read_checkpoint(path), Path(path).parent
        checkpoint.get("callbacks", {}).pop("Timer", None)  # trainer.max_time is the time of one start
        for state in checkpoint.get("callbacks", {}).values():
            old = state.get("dirpath") if isinstance(state, dict) else None
            if isinstance(old, str) and Path(old).name == directory.name:  # else a directory outside the run
                state.update(_relocate(state, old, str(directory)))
        return checkpoint


def check_states(states: Mapping[str, Any]) -> None:
    """Check that the states of callbacks, by name, are values that ``weights_only=True`` reads again.

    Raises:
        UserError: names the callback.
    """
    for name, state in states.items():
        if _is_plain(state):
            continue
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
            torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
        except Exception as error:  # pickling may raise anything
            raise UserError(
                f"the state of the callback {name} has an object that a checkpoint cannot hold ({first_line(error)}): "
                "let its state_dict return numbers, text, tensors, lists and dictionaries"
            ) from None


def _is_plain(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
        case list() | tuple():
            return all(map(_is_plain, value))
        case _:
            return value is None or type(value) in (str, int, float, bool, torch.Tensor)


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


def _relocate(value: Any, old: str, new: str) -> Any:
    """The paths in a callback's state, which are absolute, below another directory."""
    if isinstance(value, dict):
        return {_relocate(key, old, new): _relocate(item, old, new) for key, item in value.items()}
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
