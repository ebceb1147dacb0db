"""What ``import gptladder`` gives: the commands as functions, for scripts and notebooks."""
