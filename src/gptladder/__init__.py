"""gpt-ladder: from a bigram table to a GPT, one rung at a time."""

__version__ = "0.2.0"
