"""The sweeper that gpt-ladder adds to Hydra."""
