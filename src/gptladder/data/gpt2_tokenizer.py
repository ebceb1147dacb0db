"""GPT-2's tokenizer: 50,257 tokens, from OpenAI's ``tiktoken`` (Radford et al. 2019)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Corpus
from gptladder.data.tokenizer import Tokenizer, check_unicode, smallest_int_dtype
from gptladder.system.commands import install_command
from gptladder.system.errors import UserError

try:
    import tiktoken
except ModuleNotFoundError:
    raise UserError(f"tokenizer=gpt2 needs tiktoken: {install_command('gpt2')} installs it") from None

NAME = "gpt2"
DOWNLOAD_HINT = (
    "on a machine with network access, run TIKTOKEN_CACHE_DIR=DIR python -c "
    "\"import tiktoken; tiktoken.get_encoding('gpt2')\", then set TIKTOKEN_CACHE_DIR to that directory or a copy of it"
)


class GPT2Tokenizer(Tokenizer):
    """The published GPT-2 vocabulary, the same for every text: ``Hello there`` is ``[15496, 612]``.

    Args:
        encoding: an encoding of the library ``tiktoken``. Its special tokens keep their ids, but text that looks like
            one is encoded as ordinary text.
    """

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding = encoding

    @classmethod
    def from_text(cls, *_: str | Corpus) -> Self:
        """Load the published vocabulary; the texts are ignored.

        Raises:
            UserError: its files are neither in tiktoken's cache nor can they be downloaded.
        """
        try:
            return cls(tiktoken.get_encoding(NAME))
        except (OSError, ValueError) as error:  # no network, an unwritable cache, or files with a wrong checksum
            raise UserError(
                f"tokenizer=gpt2: tiktoken can neither find nor download its files ({type(error).__name__}): "
                f"{DOWNLOAD_HINT}"
            ) from None

    @property
    def vocab_size(self) -> int:
        return self.encoding.n_vocab

    def encode(self, text: str) -> Tensor:
        tokens = self.encoding.encode_ordinary(check_unicode(text))
        return torch.from_numpy(np.array(tokens, dtype=smallest_int_dtype(self.vocab_size)))

    def token_bytes(self, token: int) -> bytes:
        return self.encoding.decode_single_token_bytes(token)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "gpt2"}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls.from_text()
