"""How ``init_from`` names a directory of Hugging Face: ``hf:DIR``."""

from __future__ import annotations

from typing import Any

SCHEME = "hf:"


def is_hugging_face(name: Any) -> bool:
    """Whether ``init_from`` names a directory of Hugging Face."""
    return isinstance(name, str) and name.startswith(SCHEME)
