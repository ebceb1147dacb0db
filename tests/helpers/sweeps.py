"""The results and the table of a sweep."""

import csv
import json
from pathlib import Path
from typing import Any

TIMES = {"seconds", "tokens_per_second"}


def results(directory: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(directory.glob("*/result.json"))}


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / "table.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]
