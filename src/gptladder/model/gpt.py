"""The rungs: a bigram table, and one GPT whose constructor arguments are the ladder.

Dimensions in comments::

    B  batch        T  time (position in the window)    C  channels (n_embd)
    V  vocabulary   H  heads (n_head)                   D  head size
                    K  heads of keys and values (n_kv_head)

Parameters are created in the order of the lecture "Let's build GPT: from scratch, in code, spelled out", so that one
seed gives the initial weights of the published curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from gptladder.model.argument_checks import check_arguments, check_int
from gptladder.model.attention import CausalSelfAttention, UniformAttention
from gptladder.model.block import Block, build_mlp
from gptladder.model.embeddings import InputEmbedding
from gptladder.model.init import INITIALIZATIONS
from gptladder.model.kv_cache import KVCache
from gptladder.model.rotary import RotaryEmbedding


class Bigram(nn.Module):
    """A table of next-character logits, one row per character.

    ``(B, T)`` token numbers to ``(B, T, V)`` logits. It sees one character only; ``block_size`` is the number of
    predictions per block.
    """

    def __init__(self, *, vocab_size: int = 65, block_size: int = 8) -> None:
        super().__init__()
        check_int(1, block_size=block_size)
        self.arguments = {"vocab_size": vocab_size, "block_size": block_size}
        self.block_size = block_size
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.table(idx)  # (B, T) -> (B, T, V)
        return logits


class GPT(nn.Module):
    """A decoder-only transformer; with every switch off, a bigram model with an embedding.

    ``(B, T)`` token numbers, ``T <= block_size``, to ``(B, T, V)`` logits. The defaults are the full small model of the
    lecture, without dropout.

    Args:
        vocab_size: ``V``.
        block_size: the longest ``T``.
        n_embd: ``C``, the width of the embedding.
        positions: add a learned embedding of the position to that of the token.
        n_layer: blocks of attention and feed-forward; 0 predicts from the embedding alone.
        attention: a uniform ``mean`` of the past, or ``softmax`` weights from queries and keys.
        n_head: ``H``, parallel heads.
        head_size: ``D``; ``None`` divides ``n_embd`` among the heads.
        scale: divide attention scores by the square root of ``D``.
        expansion: hidden width of the feed-forward in multiples of its input; 0 leaves the feed-forward out, 1 is a
            single linear with its activation. ``swiglu`` has two thirds of that width, and as many weights.
        projection: a linear after the concatenated heads.
        residual: add each sublayer's output to its input instead of replacing it.
        norm_position: normalize ``pre`` (before each sublayer and the head), ``post`` (after each sublayer), ``none``.
        dropout: on attention weights and on sublayer outputs.

    Beyond the lecture:

        bias: a bias in every linear but queries, keys and values, and in LayerNorm.
        qkv_bias: a bias in queries, keys and values, as in GPT-2.
        head_bias: a bias in the head; ``None`` is ``bias``.
        norm: ``layernorm``, or ``rmsnorm`` (Zhang & Sennrich 2019), which subtracts no mean and adds no bias.
        norm_eps: what is added to the variance before dividing by its square root.
        norm_affine: a learned gain (and bias) in each normalization.
        activation: of the feed-forward, ``relu``, ``gelu``, ``gelu_tanh`` (GELU as GPT-2 approximates it), ``relu2``
            (ReLU squared), or ``swiglu`` (a linear gated by the SiLU of another).
        hidden_size: hidden width of the feed-forward, instead of ``expansion``.
        tie_weights: the head shares the weights of the token embedding (Press & Wolf 2016).
        rope: rotary position embeddings.
        rope_theta: their base; larger ones turn more slowly.
        n_kv_head: ``K``, heads of keys and values, each shared by ``H / K`` query heads; ``None`` is ``n_head``.
        qk_norm: normalize queries and keys, without learned parameters.
        sdpa: use torch's fused attention for long contexts; false is faster in bf16 on a CPU.
        n_prev_tokens: add embeddings of that many previous tokens.
        bigram_embedding: add an embedding of each pair of tokens.
        init: initial weights: ``torch_default`` as in the lecture, ``gpt2``, or ``zero_residual``.

    Attributes:
        arguments: what it was built with, as plain values.

    Raises:
        UserError: sizes that do not fit together.

    Follows the lecture named above; Vaswani et al. 2017 for the parts, Radford et al. 2019 for ``pre``.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 65,
        block_size: int = 8,
        n_embd: int = 32,
        positions: bool = True,
        n_layer: int = 3,
        attention: Literal["mean", "softmax"] = "softmax",
        n_head: int = 4,
        head_size: int | None = None,
        scale: bool = True,
        expansion: int = 4,
        projection: bool = True,
        residual: bool = True,
        norm_position: Literal["none", "pre", "post"] = "pre",
        dropout: float = 0.0,
        bias: bool = True,
        qkv_bias: bool = False,
        head_bias: bool | None = None,
        norm: Literal["layernorm", "rmsnorm"] = "layernorm",
        norm_eps: float = 1e-5,
        norm_affine: bool = True,
        activation: Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu"] = "relu",
        hidden_size: int | None = None,
        tie_weights: bool = False,
        rope: bool = False,
        rope_theta: float = 10_000.0,
        n_kv_head: int | None = None,
        qk_norm: bool = False,
        sdpa: bool = True,
        n_prev_tokens: int = 0,
        bigram_embedding: bool = False,
        init: Literal["torch_default", "gpt2", "zero_residual"] = "torch_default",
    ) -> None:
        arguments: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.arguments = arguments
        check_arguments(arguments)
        head_size = head_size or n_embd // n_head
        width = n_head * head_size if n_layer and not projection else n_embd
        head_bias = bias if head_bias is None else head_bias
        heads: dict[str, Any] = {"n_head": n_head, "head_size": head_size, "projection": projection, "bias": bias}

        def build_norm(size: int, affine: bool = norm_affine) -> nn.Module:
            if norm == "rmsnorm":
                return nn.RMSNorm(size, eps=norm_eps, elementwise_affine=affine)
            return nn.LayerNorm(size, eps=norm_eps, elementwise_affine=affine, bias=bias)

        def build_attention() -> nn.Module:
            if attention == "mean":
                return UniformAttention(n_embd, **heads)
            return CausalSelfAttention(
                n_embd,
                **heads,
                n_kv_head=n_kv_head,
                qkv_bias=qkv_bias,
                block_size=block_size,
                scale=scale,
                dropout=dropout,
                rope=RotaryEmbedding(block_size=block_size, head_size=head_size, theta=rope_theta) if rope else None,
                qk_norm=build_norm(head_size, affine=False) if qk_norm else None,
                sdpa=sdpa,
            )

        def build_block() -> Block:
            return Block(
                build_attention(),
                build_mlp(width, expansion, activation, bias=bias, hidden_size=hidden_size),
                n_embd=n_embd,
                width=width,
                norm=build_norm,
                norm_position=norm_position,
                residual=residual,
                dropout=dropout,
            )

        self.block_size = block_size
        # The notebook that published `embedding` created its head before its table; every other rung creates it last.
        early_head = nn.Linear(n_embd, vocab_size, bias=head_bias) if not n_layer and not positions else None
        self.embedding = InputEmbedding(
            vocab_size,
            block_size,
            n_embd,
            positions=positions,
            n_prev_tokens=n_prev_tokens,
            bigram_embedding=bigram_embedding,
        )
        self.blocks = nn.ModuleList(build_block() for _ in range(n_layer))
        self.final_norm = build_norm(width) if norm_position == "pre" else nn.Identity()
        self.lm_head = early_head or nn.Linear(width, vocab_size, bias=head_bias)
        if tie_weights:
            self.lm_head.weight = self.embedding.token.weight
        INITIALIZATIONS[init](self)

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        x = self.embedding(idx, cache)  # (B, T) -> (B, T, C)
        for block in self.blocks:
            x = block(x, cache)
        logits: Tensor = self.lm_head(self.final_norm(x))  # (B, T, C) -> (B, T, V)
        if cache is not None:
            cache.length += idx.size(1)
        return logits


def count_parameters(net: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def describe_net(net: nn.Module) -> dict[str, Any] | None:
    """The kind and the arguments of a network of ours as plain values; ``None`` for any other."""
    plain = getattr(type(net), "plain_class", type(net))  # of a network that computes the same in another way
    arguments: Any = getattr(net, "arguments", {})
    return next(({"kind": name, **arguments} for name, kind in NETS.items() if plain is kind), None)


def build_net(description: Mapping[str, Any]) -> GPT | Bigram:
    """A freshly initialized network from what ``describe_net`` returned.

    Raises:
        LookupError, TypeError: it describes no network of ours.
    """
    arguments = dict(description)
    return NETS[arguments.pop("kind")](**arguments)


NETS: dict[str, type[GPT] | type[Bigram]] = {"bigram": Bigram, "gpt": GPT}
