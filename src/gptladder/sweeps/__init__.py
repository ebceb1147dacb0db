"""Many runs: jobs, their names, dry runs and worker processes."""
