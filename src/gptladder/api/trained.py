"""A trained network with its tokenizer: generate, evaluate, look inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

import torch

from gptladder.api.inspection import Attention, Surprise
from gptladder.data.tokenizer import token_labels
from gptladder.evaluation.analysis import token_losses
from gptladder.evaluation.loss import evaluate_tokens
from gptladder.generation.sampling import generate_text
from gptladder.model.attention import attention_weights
from gptladder.runs import checkpoint
from gptladder.system.errors import UserError
from gptladder.training import speed


def load(path: str | Path) -> Trained:
    """Load a trained network in evaluation mode, on the CPU.

    Args:
        path: a run directory, a checkpoint, or an export (``model.safetensors``). Nothing in it is run.

    Raises:
        UserError: the file is missing, truncated, not one of ours, or does not fit the network that it names.
    """
    return Trained(**vars(checkpoint.load_trained(path)))


@dataclass(frozen=True, repr=False)
class Trained(checkpoint.Trained):
    """A trained network ``net``, its ``tokenizer``, and the ``config`` of its run as a dict.

    ``net(idx)`` maps tokens ``(B, T)`` to logits ``(B, T, V)``, as any module of PyTorch.
    """

    @overload
    def generate(
        self,
        prompt: str = ...,
        *,
        n_tokens: int = ...,
        seed: int = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        stream: Literal[False] = ...,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompt: str = ...,
        *,
        n_tokens: int = ...,
        seed: int = ...,
        temperature: float = ...,
        top_k: int | None = ...,
        top_p: float | None = ...,
        stream: Literal[True],
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: str = "",
        *,
        n_tokens: int = 500,
        seed: int = 1337,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stream: bool = False,
    ) -> str | Iterator[str]:
        """Continue a prompt; the same text as ``gpt-ladder generate`` with the same options.

        Args:
            prompt: the text to continue; if empty, generation starts from a newline, as in the lecture.
            n_tokens: the number of tokens to generate.
            seed: of the sampling.
            temperature: below 1 is less random, 0 is greedy.
            top_k: sample from the ``k`` most likely tokens only.
            top_p: sample from the most likely tokens with that probability together.
            stream: return an iterator of pieces, the prompt first, instead of one string.

        Raises:
            UserError: the prompt has a character outside the vocabulary, or an option is out of range.
        """
        net = speed.prepare_for_generation(self.net)
        options: dict[str, Any] = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "block_size": self.block_size,
        }
        pieces = generate_text(net, self.tokenizer, prompt, n_samples=1, n_tokens=n_tokens, seed=seed, **options)
        pieces = chain([next(pieces)], pieces)  # a mistake in an option is raised here, also for a stream
        return pieces if stream else "".join(pieces)

    def evaluate(self, text: str | None = None) -> dict[str, float]:
        """The exact loss on a text, each token but the first predicted once.

        Args:
            text: by default the validation split of the run.

        Returns:
            ``loss`` in nats per token, ``bits_per_char``, ``perplexity`` per token, and ``n_predictions``.

        Raises:
            UserError: the text is too short, or has a character outside the vocabulary.
        """
        data = checkpoint.validation_tokens(self) if text is None else checkpoint.tokenize_text(self, text)
        return evaluate_tokens(
            self.net,
            data.tokens.to(self._device),
            block_size=self.block_size,
            vocab_size=self.tokenizer.vocab_size,
            tokens_per_char=data.tokens_per_char,
        )

    def attention(self, prompt: str) -> Attention:
        """The attention weights over a prompt: one ``(H, T, T)`` array per layer; a notebook draws them.

        Args:
            prompt: ``T`` tokens; of more than a window, the last window.

        Raises:
            UserError: the prompt is empty, or has a character outside the vocabulary.
        """
        tokens = self.tokenizer.encode(prompt)[-self.block_size :].long()
        if not len(tokens):
            raise UserError("prompt= is empty: give at least one character")
        layers = [weights.numpy() for weights in attention_weights(self.net, tokens.to(self._device))]
        return Attention(layers, token_labels(self.tokenizer, tokens.tolist()))

    def surprise(self, text: str) -> Surprise:
        """The loss of each token of a text in nats, ``(N,)``; a notebook shades the text by it.

        The text is cut into windows, as for the exact loss. The first token is not predicted: its loss is NaN.

        Raises:
            UserError: the text has fewer than two tokens, or a character outside the vocabulary.
        """
        tokens = self.tokenizer.encode(text)
        if len(tokens) < 2:
            raise UserError("the text has fewer than 2 tokens; at least two are needed, one of them to predict")
        sizes = {"block_size": self.block_size, "vocab_size": self.tokenizer.vocab_size}
        losses = token_losses(self.net, tokens.to(self._device), **sizes).cpu()
        labels = token_labels(self.tokenizer, tokens.tolist())
        return Surprise.from_losses(labels, losses.numpy(), **sizes)

    @property
    def _device(self) -> torch.device:
        return next(self.net.parameters()).device

    def __repr__(self) -> str:
        n_params = sum(parameter.numel() for parameter in self.net.parameters())
        return f"Trained({self.config.get('rung')}: {n_params:,} parameters, {self.tokenizer.vocab_size} tokens)"
