"""Text from a trained net, one token after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gptladder.data.tokenizer import Tokenizer, decode_stream
from gptladder.model.kv_cache import Reader
from gptladder.system.errors import UserError


def generate(
    net: nn.Module,
    prompt: Tensor,
    *,
    n_tokens: int,
    block_size: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Continue prompts token by token, each drawn from the net's own distribution.

    Args:
        net: ``(B, T)`` token numbers to ``(B, T, V)`` logits, in evaluation mode.
        prompt: ``(B, T)``, ``T >= 1``; only its last ``block_size`` tokens are seen.
        n_tokens: how many to draw.
        temperature: logits are divided by it; 0 is greedy.
        top_k: draw among the ``k`` likeliest tokens only.
        generator: where the draws come from; never the stream that training draws from.

    Returns:
        An iterator of ``(B,)`` int64, the next token of each prompt.

    Raises:
        UserError: an option is out of range; said before anything is drawn.
    """
    if not temperature >= 0:
        raise UserError(f"temperature={temperature} must be at least 0 (0 is greedy)")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k={top_k} must be at least 1")
    generator = generator or torch.Generator(prompt.device).manual_seed(0)
    return _continued(net, prompt, n_tokens, block_size, temperature, top_k, generator)


@torch.inference_mode()
def _continued(
    net: nn.Module,
    idx: Tensor,
    n_tokens: int,
    block_size: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    reader = Reader(net, block_size)
    new = idx[:, -block_size:]
    written = [new]
    for _ in range(n_tokens):
        if reader.length + new.size(1) <= block_size:
            logits = reader.read(new)
        else:  # every token moves to another place in the block: what was kept of them holds no more
            written = [torch.cat(written, dim=1)[:, -block_size:]]
            logits = net.forward(written[0])  # never compiled: each new length would be compiled anew
        new = _draw(logits[:, -1], temperature, top_k, generator)  # (B, T, V) -> (B, 1)
        written.append(new)
        yield new.squeeze(1)


def texts(
    net: nn.Module, tokenizer: Tokenizer, prompt: str, *, n_samples: int, n_tokens: int, seed: int, **options: Any
) -> Iterator[str]:
    """Continue a prompt in text, in whole characters as they are drawn; several samples are drawn at once.

    Args:
        prompt: what to continue, and the first piece; empty starts from newline, as the lecture does.
        n_samples: of more than one, each comes whole, a line of dashes between two.
        options: those of ``generate``.

    Raises:
        UserError: the prompt has a character outside the vocabulary, or an option is out of range.
    """
    if n_samples < 1 or n_tokens < 0:
        raise UserError(f"samples={n_samples} of tokens={n_tokens} cannot be written: ask for at least 1 of 0")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed={seed} must be from 0 to below 2**63")
    device = next(net.parameters()).device
    start = tokenizer.encode(prompt).long() if prompt else _beginning(tokenizer)
    generator = torch.Generator(device).manual_seed(seed)
    tokens = generate(net, start.to(device).expand(n_samples, -1), n_tokens=n_tokens, generator=generator, **options)
    if n_samples == 1:
        yield prompt
        yield from filter(None, decode_stream(tokenizer, map(int, tokens)))
    else:
        drawn = torch.stack([start.new_zeros(n_samples), *(token.cpu() for token in tokens)], dim=1)[:, 1:]
        yield "\n----\n".join(prompt + tokenizer.decode(sample) for sample in drawn)


def _beginning(tokenizer: Tokenizer) -> Tensor:
    """Newline, the lecture's token 0; where no line ever ended, the first token."""
    try:
        return tokenizer.encode("\n").long()
    except UserError:
        return torch.zeros(1, dtype=torch.long)


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.size(-1):
        threshold = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < threshold, float("-inf"))
    # What `torch.multinomial` draws, bit for bit, without its checks: of exponential clocks the likeliest rings first.
    likely = logits.softmax(dim=-1)
    return (likely / torch.empty_like(likely).exponential_(generator=generator)).argmax(dim=-1, keepdim=True)
