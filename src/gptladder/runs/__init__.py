"""A run on disk: its directory, result, log, identity, checkpoints and export, and the published curves."""

from gptladder.system.callable_package import make_callable

make_callable(__name__)  # `gptladder.runs(directory)` is a table
