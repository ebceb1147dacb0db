"""The network: Bigram and GPT in plain PyTorch, with their parts."""
