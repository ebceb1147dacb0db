"""What gpt-ladder adds to Hydra."""
