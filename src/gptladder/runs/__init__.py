"""A run on disk: its directory, result, identity, checkpoints and export, and the published curves."""
