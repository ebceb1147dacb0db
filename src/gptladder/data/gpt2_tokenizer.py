"""GPT-2's tokenizer: 50,257 tokens, by OpenAI's ``tiktoken`` (Radford et al. 2019)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Text
from gptladder.data.tokenizer import Tokenizer, check_unicode, smallest
from gptladder.system.errors import UserError

try:
    import tiktoken
except ModuleNotFoundError:
    raise UserError("tokenizer=gpt2 needs tiktoken: pip install -e '.[gpt2]' brings it") from None

NAME = "gpt2"
REMEDY = (
    "where there is a network, run TIKTOKEN_CACHE_DIR=DIR python -c "
    "\"import tiktoken; tiktoken.get_encoding('gpt2')\", then set TIKTOKEN_CACHE_DIR to that directory or a copy of it"
)


class GPT2Tokenizer(Tokenizer):
    """The same tokens whatever the text: ``Hello there`` is ``[15496, 612]``.

    Args:
        encoding: of the library ``tiktoken``. Its special tokens keep their numbers and are never made from text.
    """

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding = encoding

    @classmethod
    def from_text(cls, *_: str | Text) -> Self:
        """Take it as it is published; no text is looked at.

        Raises:
            UserError: its files are neither in tiktoken's cache nor to be downloaded.
        """
        try:
            return cls(tiktoken.get_encoding(NAME))
        except (OSError, ValueError) as error:  # no network, nowhere to write, or files that are not what they were
            raise UserError(
                f"tokenizer=gpt2: tiktoken can neither find nor download its files ({type(error).__name__}): {REMEDY}"
            ) from None

    @property
    def vocab_size(self) -> int:
        return self.encoding.n_vocab

    def encode(self, text: str) -> Tensor:
        numbers = self.encoding.encode_ordinary(check_unicode(text))
        return torch.from_numpy(np.array(numbers, dtype=smallest(self.vocab_size)))

    def token_bytes(self, token: int) -> bytes:
        return self.encoding.decode_single_token_bytes(token)

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "gpt2"}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls.from_text()
