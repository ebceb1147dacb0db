"""pandas, which is an extra."""

from __future__ import annotations

from typing import Any

from gptladder.system.errors import UserError


def import_pandas() -> Any:
    """The module pandas.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("a table needs pandas, which is not installed: pip install pandas") from None
    return pandas
