"""The rungs: a bigram table, and one GPT whose constructor arguments are the ladder.

Dimensions in comments::

    B  batch        T  time (position in the block)     C  channels (n_embd)
    V  vocabulary   H  heads (n_head)                   D  head size

Parts are built in the order of the lecture "Let's build GPT: from scratch, in code, decode_stream out", so that
one seed draws the very weights of the published curves. A switch that is off is an absent part, chosen in
the constructor: ``forward`` never asks.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from gptladder.model.activation import ACTIVATIONS
from gptladder.model.attention import gathers
from gptladder.model.block import Layer, Sublayer, feedforward, projected
from gptladder.model.embeddings import TokenEmbedding, WithPairs, WithPrevious
from gptladder.model.init import INITIALISATIONS
from gptladder.model.validation import check_dropout, check_modern, check_width, one_of, share, whole


class Bigram(nn.Module):
    """A table of next-character logits, one row a character.

    ``(B, T)`` token numbers to ``(B, T, V)`` logits. It looks at one character only; ``block_size`` is how many
    it predicts at once.
    """

    def __init__(self, *, vocab_size: int, block_size: int) -> None:
        super().__init__()
        whole(1, block_size=block_size)
        self.block_size = block_size
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx: Tensor) -> Tensor:
        logits: Tensor = self.table(idx)  # (B, T) -> (B, T, V)
        return logits


class GPT(nn.Module):
    """A decoder-only transformer; with every switch off, an embedded bigram.

    ``(B, T)`` token numbers, ``T <= block_size``, to ``(B, T, V)`` logits.

    Args:
        vocab_size: ``V``.
        block_size: the longest ``T``.
        n_embd: ``C``, the width of the embedding.
        positions: add a learnt embedding of the position to that of the token.
        n_layer: layers of attention and feed-forward; 0 predicts from the embedding alone.
        attention: how the past is gathered, a uniform ``mean`` or ``softmax`` weights from queries and keys.
        n_head: ``H``, heads side by side.
        head_size: ``D``; ``None`` divides ``n_embd`` among the heads.
        scale: divide attention scores by the square root of ``D``.
        expansion: width of the feed-forward's hidden part in multiples of its input; 0 leaves the
            feed-forward out, 1 is a single linear with ReLU.
        projection: a linear after the concatenated heads.
        residual: add each sublayer's output to its input instead of atomic_write it.
        norm_position: LayerNorm ``pre`` (before each sublayer and the head), ``post`` (after each sublayer), ``none``.
        dropout: on attention weights and on sublayer outputs.

    Beyond the lecture, which does without them:

        bias: a bias in every linear, and in LayerNorm.
        norm_gain: a learnt gain (and bias) in LayerNorm.
        activation: of the feed-forward, ``relu``, ``gelu`` or ``relu2``, its square.
        tied: the head reuses the table of tokens (Press & Wolf 2016).
        rotary: tell places by turning queries and keys.
        qk_norm: normalise queries and keys, head by head.
        fused: let torch's fused kernel attend over long contexts; false is faster in bf16 on a CPU.
        n_previous: add embeddings of that many tokens just before to each token's own.
        pairs: add an embedding of the pair that each token makes with the one before it.
        init: first weights as the ``lecture`` draws them, as ``gpt2`` does, or ``zero`` in whatever writes into the
            residual stream or the logits.

    Raises:
        UserError: sizes that do not fit together.

    Follows the lecture named above; Vaswani et al. 2017 for the parts, Radford et al. 2019 for ``pre``.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        positions: bool,
        n_layer: int,
        attention: Literal["mean", "softmax"],
        n_head: int,
        head_size: int | None,
        scale: bool,
        expansion: int,
        projection: bool,
        residual: bool,
        norm_position: Literal["none", "pre", "post"],
        dropout: float,
        bias: bool = True,
        norm_gain: bool = True,
        activation: Literal["relu", "gelu", "relu2"] = "relu",
        tied: bool = False,
        rotary: bool = False,
        qk_norm: bool = False,
        fused: bool = True,
        n_previous: int = 0,
        pairs: bool = False,
        init: Literal["lecture", "gpt2", "zero"] = "lecture",
    ) -> None:
        super().__init__()
        whole(1, block_size=block_size, n_embd=n_embd, n_head=n_head, head_size=1 if head_size is None else head_size)
        whole(0, n_layer=n_layer, expansion=expansion, n_previous=n_previous)
        one_of(attention=(attention, ("mean", "softmax")), norm_position=(norm_position, ("none", "pre", "post")))
        one_of(activation=(activation, tuple(ACTIVATIONS)), init=(init, tuple(INITIALISATIONS)))
        check_dropout(dropout)
        head_size = head_size or share(n_embd, n_head)
        width = n_head * head_size if n_layer and not projection else n_embd
        stacked, ends_linear = n_layer > 1 or residual, residual and projection and expansion != 1
        check_width(width, n_embd=n_embd, n_head=n_head, head_size=head_size, stacked=stacked, tied=tied)
        check_modern(head_size=head_size, rotary=rotary, init=init, ends_linear=ends_linear)
        self.block_size = block_size
        linear = partial(nn.Linear, bias=bias)
        norm = partial(nn.LayerNorm, elementwise_affine=norm_gain, bias=bias)
        options = {"scale": scale, "dropout": dropout, "rotary": rotary, "qk_norm": qk_norm, "fused": fused}
        gather = gathers(attention, n_embd, n_head=n_head, head_size=head_size, block_size=block_size, **options)
        if projection:
            gather = partial(projected, gather, partial(linear, n_head * head_size, n_embd))
        think = partial(feedforward, width, expansion, linear, ACTIVATIONS[activation]) if expansion else None
        sublayer = partial(Sublayer, norm=norm, residual=residual, norm_position=norm_position, dropout=dropout)
        # The notebook that published `embedding` drew its head before its table; every other rung draws it last.
        head_drawn_first = linear(n_embd, vocab_size) if not n_layer and not positions else None
        token = TokenEmbedding(vocab_size, block_size, n_embd, positions=positions)
        self.embedding: nn.Module = token
        if n_previous:
            self.embedding = WithPrevious(self.embedding, vocab_size, n_embd, n_previous=n_previous)
        if pairs:
            self.embedding = WithPairs(self.embedding, vocab_size, n_embd)
        layers = (Layer(gather, think, sublayer, n_embd=n_embd, width=width) for _ in range(n_layer))
        self.layers = nn.Sequential(*layers)
        self.norm = norm(width) if norm_position == "pre" else nn.Identity()
        self.head = head_drawn_first or linear(width, vocab_size)
        if tied:
            self.head.weight = token.token.weight
        INITIALISATIONS[init](self)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.embedding(idx)  # (B, T) -> (B, T, C)
        x = self.layers(x)
        logits: Tensor = self.head(self.norm(x))  # (B, T, C) -> (B, T, V)
        return logits


def count_parameters(net: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in net.parameters())
