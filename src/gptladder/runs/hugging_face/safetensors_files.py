"""Tensors of a directory of safetensors files, which cannot contain code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptladder.system.errors import UserError
from gptladder.system.records import read_json

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"

# Formats of weights that may contain code, or that need another library.
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx")

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_config_file(directory: Path, name: str) -> Any:
    """The content of a JSON file of the directory.

    Raises:
        UserError: it is missing, damaged, too large, or a link out of the directory.
    """
    try:
        return read_json(_inside(directory, name))
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{name} is damaged ({error}): take another copy of the model") from None


class SafetensorsFiles:
    """The tensors of a model, in one file or in several that an index names.

    Args:
        directory: with ``model.safetensors``, or with ``model.safetensors.index.json`` and the files that it names.

    Attributes:
        shapes: of all tensors, by name.

    Raises:
        UserError: a file is missing, damaged, a link out of the directory or too large for this machine; a tensor has
            another type than fp32, fp16 or bf16.
    """

    def __init__(self, directory: Path) -> None:
        self._files = list(_weight_files(directory))
        self.shapes: dict[str, tuple[int, ...]] = {}
        n_values = 0
        for path in self._files:
            for name, dtype, shape in _read_header(path):
                if name in self.shapes:
                    raise UserError(f"the tensor {name} is in two files: take another copy of the model")
                if dtype not in DTYPES:
                    raise UserError(
                        f"the tensor {name} has the type {dtype}, and only {', '.join(DTYPES)} can be loaded"
                    )
                self.shapes[name] = shape
                n_values += torch.Size(shape).numel()
        needed, available = 4 * n_values, psutil.virtual_memory().total
        if needed > available:
            raise UserError(
                f"its weights need {needed / 1e9:,.0f} GB, and this machine has {available / 1e9:,.0f}: "
                "use a smaller model"
            )

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, in fp32.

        Raises:
            UserError: a value is infinite or NaN.
        """
        for path in self._files:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dictionary
                    tensor = file.get_tensor(name).float()
                    if not tensor.isfinite().all():
                        raise UserError(f"the tensor {name} is not finite: take another copy of the model")
                    yield name, tensor


def _weight_files(directory: Path) -> Iterator[Path]:
    if (directory / WEIGHTS_FILE).exists() or (directory / WEIGHTS_FILE).is_symlink():
        yield _inside(directory, WEIGHTS_FILE)
    elif (directory / INDEX_FILE).exists() or (directory / INDEX_FILE).is_symlink():
        index = read_config_file(directory, INDEX_FILE)
        places = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(places, Mapping) or not places or not all(isinstance(name, str) for name in places.values()):
            raise UserError(f"{INDEX_FILE} names no files: take another copy of the model")
        yield from (_inside(directory, name) for name in sorted(set(places.values())))
    else:
        others = sorted(path.name for pattern in OTHER_WEIGHTS for path in directory.glob(pattern))
        if others:
            raise UserError(
                f"it has {others[0]} and no {WEIGHTS_FILE}: save the model as safetensors, with save_pretrained of "
                "transformers"
            )
        raise UserError(f"there is no {WEIGHTS_FILE} in it: take a complete copy of the model")


def _inside(directory: Path, name: str) -> Path:
    """The regular file of that name in the directory.

    Raises:
        UserError: it is missing, no regular file, in another directory, or a link out of this one.
    """
    path = directory / name
    if Path(name).name != name or name == "..":
        raise UserError(f"{INDEX_FILE} names {name}, which is no file of this directory")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise UserError(f"{name} is a link out of the directory: copy the files themselves, as cp -rL does")
    if not path.is_file():
        raise UserError(f"there is no file {name} in it: take a complete copy of the model")
    return path


def _read_header(path: Path) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """The name, type and shape of each tensor, without reading it."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                tensor = file.get_slice(name)
                yield name, tensor.get_dtype(), tuple(tensor.get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        what = " ".join(str(error).split())[:100]
        raise UserError(f"{path.name} cannot be read ({what}): take another copy of the model") from None
