"""Sweeps: jobs, dry runs and worker processes."""
