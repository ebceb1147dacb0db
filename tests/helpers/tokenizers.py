"""A tokenizer small enough for a test."""

import tiktoken

from gptladder.data.bpe import BPETokenizer
from gptladder.data.text import tiny_shakespeare

PAIRS = BPETokenizer.from_text(tiny_shakespeare()[:50_000], vocab_size=400)

# GPT-2's way of cutting words, with tokens that need no download.
TINY_GPT2 = tiktoken.Encoding(
    "tiny",
    pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    mergeable_ranks={PAIRS.token_bytes(token): token for token in range(PAIRS.vocab_size)},
    special_tokens={"<|endoftext|>": PAIRS.vocab_size},
)
