"""The benchmarks of ``scripts/benchmark.py``, one function each; every one compares two timings taken in turn."""
