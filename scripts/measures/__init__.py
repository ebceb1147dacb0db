"""What ``scripts/benchmark.py`` measures: each the time of something here against something else, in turn."""
