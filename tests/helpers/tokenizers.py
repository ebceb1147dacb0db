"""Tokenizers small enough for tests."""

import tiktoken

from gptladder.data.bpe import BPETokenizer
from gptladder.data.text import tiny_shakespeare

TINY_BPE = BPETokenizer.from_text(tiny_shakespeare()[:50_000], vocab_size=400)

# GPT-2's pattern for splitting words, with tokens that need no download.
TINY_GPT2 = tiktoken.Encoding(
    "tiny",
    pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    mergeable_ranks={TINY_BPE.token_bytes(token): token for token in range(TINY_BPE.vocab_size)},
    special_tokens={"<|endoftext|>": TINY_BPE.vocab_size},
)
