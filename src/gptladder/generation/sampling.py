"""Sampling: generate text with a trained network, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gptladder.data.tokenizer import Tokenizer, decode_stream
from gptladder.model.gpt import GPT
from gptladder.model.kv_cache import KVCache
from gptladder.system.errors import UserError

MAX_SAMPLES, MAX_TOKENS = 10_000, 100_000_000

# Divided by less, the logits may be infinite; the most likely token is then sampled anyway.
MIN_TEMPERATURE = 1e-6


def generate(
    net: nn.Module,
    prompt: Tensor,
    *,
    n_tokens: int,
    block_size: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Generate tokens that continue a batch of prompts, each sampled from the network's distribution.

    Args:
        net: maps token ids ``(B, T)`` to logits ``(B, T, V)``; in evaluation mode.
        prompt: ``(B, T)``, ``T >= 1``; the network sees only the last ``block_size`` tokens.
        n_tokens: the number of tokens to generate.
        temperature: the logits are divided by it; 0 is greedy.
        top_k: sample from the ``k`` most likely tokens only.
        top_p: sample from the fewest most likely tokens whose probabilities sum up to it, after ``top_k`` (Holtzman et
            al. 2019).
        generator: the source of randomness; by default a new one with seed 0, so that sampling never affects training.

    Returns:
        An iterator of ``(B,)`` int64 tensors, the next token of each prompt.

    Raises:
        UserError: an option is out of range; raised before anything is sampled.
    """
    if not temperature >= 0:
        raise UserError(f"temperature={temperature} must be at least 0 (0 is greedy)")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k} must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p={top_p} must lie above 0 and be at most 1")
    generator = generator or torch.Generator(prompt.device).manual_seed(0)
    return _sample_tokens(net, prompt, n_tokens, block_size, temperature, top_k, top_p, generator)


@torch.inference_mode()
def _sample_tokens(
    net: nn.Module,
    idx: Tensor,
    n_tokens: int,
    block_size: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    cache = KVCache(block_size) if isinstance(net, GPT) else None
    new = idx[:, -block_size:]
    tokens = new
    for _ in range(n_tokens):
        if cache is not None and cache.length + new.size(1) <= block_size:
            logits = net.forward(new, cache)
        else:  # the window moves: positions shift, so that the cache is invalid
            tokens = tokens[:, -block_size:]
            logits = net.forward(tokens)  # never compiled: each new length would be compiled anew
        new = _sample(logits[:, -1], temperature, top_k, top_p, generator)  # (B, T, V) -> (B, 1)
        tokens = torch.cat([tokens, new], dim=1)
        yield new.squeeze(1)


def generate_text(
    net: nn.Module, tokenizer: Tokenizer, prompt: str, *, n_samples: int, n_tokens: int, seed: int, **options: Any
) -> Iterator[str]:
    """Generate text that continues a prompt.

    Args:
        prompt: the text to continue; if empty, generation starts from a newline, as in the lecture.
        n_samples: the number of samples, generated as one batch.
        options: those of ``generate``.

    Yields:
        the prompt, then each character as it is complete; several samples come as one piece, with a line of dashes
        between them.

    Raises:
        UserError: the prompt has a character outside the vocabulary, or an option is out of range.
    """
    if not 1 <= n_samples <= MAX_SAMPLES:
        raise UserError(f"samples={n_samples} must be from 1 to {MAX_SAMPLES:,}")
    if not 0 <= n_tokens <= MAX_TOKENS:
        raise UserError(f"tokens={n_tokens} must be from 0 to {MAX_TOKENS:,}")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed={seed} must be an integer in [0, 2**63)")
    device = next(net.parameters()).device
    idx = tokenizer.encode(prompt).long() if prompt else _start_token(tokenizer)
    generator = torch.Generator(device).manual_seed(seed)
    tokens = generate(net, idx.to(device).expand(n_samples, -1), n_tokens=n_tokens, generator=generator, **options)
    if n_samples == 1:
        yield prompt
        yield from filter(None, decode_stream(tokenizer, map(int, tokens)))
    else:
        samples = torch.stack([idx.new_zeros(n_samples), *(token.cpu() for token in tokens)], dim=1)[:, 1:]
        yield "\n----\n".join(prompt + tokenizer.decode(sample) for sample in samples)


def _start_token(tokenizer: Tokenizer) -> Tensor:
    """Encode a newline, the lecture's token 0; without newline in the vocabulary, token 0."""
    try:
        return tokenizer.encode("\n").long()
    except UserError:
        return torch.zeros(1, dtype=torch.long)


def _sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> Tensor:
    if temperature < MIN_TEMPERATURE:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.size(-1):
        threshold = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < threshold, float("-inf"))
    # The sample of `torch.multinomial`, bit for bit, without its checks: the largest ratio of a probability to an
    # exponential random number.
    probabilities = logits.softmax(dim=-1)
    if top_p is not None:
        probabilities = _nucleus(probabilities, top_p)
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return (probabilities / noise).argmax(dim=-1, keepdim=True)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The probabilities of the most likely tokens that together have ``top_p``, the last one included; 0 for others."""
    ordered, indices = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # what the more likely tokens have together
    return probabilities.masked_fill((before >= top_p).gather(-1, indices.argsort(dim=-1)), 0.0)
