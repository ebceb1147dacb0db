"""Small JSON and YAML files that anyone may have written: regular files, of limited size and depth, without aliases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

# OmegaConf parses in Python and takes 15 ms per config; what Hydra wrote is plain YAML.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 16 * 2**20
MAX_DEPTH = 50
MAX_INTEGER = 2**63


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or exceeds a limit.
    """
    text = _read(path)
    try:
        content = json.loads(text, parse_int=_parse_integer)
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels") from None
    _check_depth(content)
    json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate raises a ValueError
    return content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or exceeds a limit.
    """
    return parse_yaml(_read(path))


def parse_yaml(text: str) -> Any:
    """The content of a YAML text; raises a ``ValueError`` if it is damaged, or exceeds a limit."""
    depth = 0
    try:
        # Before anything is built: a few lines of aliases can stand for a billion values.
        for event in yaml.parse(text, Loader=YAML_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("has aliases")
            if depth > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} levels")
        return yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def _read(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MB")
    return content.decode("utf-8")


def _parse_integer(digits: str) -> int:
    number = int(digits) if len(digits) < 20 else MAX_INTEGER
    if abs(number) >= MAX_INTEGER:
        raise ValueError(f"{digits[:12]}… is too large an integer")
    return number


def _check_depth(content: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels")
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _check_depth(part, depth + 1)
