"""A run on disk: its directory, result, log, identity, checkpoints and export, and the published curves."""
