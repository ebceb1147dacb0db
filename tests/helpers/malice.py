"""What a hostile file would do."""

import os
from pathlib import Path
from typing import Any


class Malice:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)
