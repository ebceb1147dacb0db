"""Objects built by Hydra from the ``_target_`` in a config; a mistake in the config is a user error."""

from __future__ import annotations

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from gptladder.system.errors import UserError, find_user_error, first_line

# Python's message for a call with wrong arguments, as opposed to an error inside the function.
WRONG_ARGUMENT = re.compile(r"unexpected keyword argument|missing \d+ required|got multiple values")


def construct(node: Any, **arguments: Any) -> Any:
    """Build the objects of a config node, with plain containers as arguments.

    Raises:
        UserError: names the key of what cannot be imported, is not installed, or refuses its arguments.
    """
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        message = find_user_error(error) or _refusal(error)
        if message is None:
            raise
        raise UserError(str(message)) from error  # a new one: the one that was found is a cause of this error


def _refusal(error: InstantiationException) -> str | None:
    """What a constructor refuses, or that it is not there; ``None`` for an error inside it."""
    while isinstance(error.__cause__, InstantiationException):
        error = error.__cause__
    cause = error.__cause__
    found = re.search(r"^full_key: (\S+)", str(error), re.MULTILINE)
    key, reason = found.group(1) if found else "the config", first_line(cause or error)
    target = re.search(r"Error locating target '([^']+)'", str(error))
    if target:
        return f"{key}._target_={target.group(1)} cannot be imported: check its spelling"
    package = re.match(r"Requirement '([\w-]+)|No module named '([\w-]+)", reason)
    if isinstance(cause, ImportError) and package:
        name = package.group(1) or package.group(2)
        return f"{key} needs {name}, which is not installed: pip install {name}"
    is_refusal = isinstance(cause, ValueError) or type(cause).__name__ == "MisconfigurationException"
    if is_refusal or (isinstance(cause, TypeError) and WRONG_ARGUMENT.search(reason)):
        return f"{key}: {reason.removesuffix('.')}: change it, remove it, or add what is missing"
    return None
