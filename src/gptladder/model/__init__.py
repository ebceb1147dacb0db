"""The network, in plain PyTorch: Bigram, GPT, and their parts."""

from gptladder.model.gpt import GPT, Bigram

__all__ = ["GPT", "Bigram"]
