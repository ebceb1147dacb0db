"""The command line around Hydra's: help, config errors, run directories and the closing summary."""
