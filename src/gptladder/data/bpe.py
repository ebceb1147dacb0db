"""Byte-level byte-pair encoding, trained on the training split (Sennrich et al. 2016)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Corpus
from gptladder.data.tokenizer import Tokenizer, check_unicode, smallest_int_dtype
from gptladder.system.errors import UserError

N_BYTES = 256  # the tokens before the first merge: they cover every text

try:
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
except ModuleNotFoundError:
    raise UserError("tokenizer=bpe needs Hugging Face's tokenizers: pip install -e '.[bpe]' brings it") from None


class BPETokenizer(Tokenizer):
    """One token per byte, plus the most frequent merges of them; every text can be encoded and decoded unchanged.

    Args:
        backend: a tokenizer of the library ``tokenizers``, byte-level and without normalization.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        vocabulary = sorted(backend.get_vocab().items(), key=lambda item: item[1])
        if [token for _, token in vocabulary] != list(range(len(vocabulary))):
            raise ValueError("the token ids do not count up from 0 without a gap")
        self._bytes = [bytes(map(BYTE_DECODER.__getitem__, name)) for name, _ in vocabulary]

    @classmethod
    def from_text(cls, train: str | Corpus, *_: str | Corpus, vocab_size: int) -> Self:
        """Train on the training split; the validation split is ignored.

        Args:
            train: the text to train on.
            vocab_size: the largest number of tokens; a short text has fewer pairs to merge.

        Raises:
            UserError: the size is not an integer, or is smaller than the number of bytes.
        """
        if type(vocab_size) is not int or vocab_size < N_BYTES:
            raise UserError(f"tokenizer.vocab_size={vocab_size} must be an integer >= {N_BYTES}, one token per byte")
        backend = Backend(BPE())
        backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(vocab_size=vocab_size, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
        backend.train_from_iterator([train] if isinstance(train, str) else train, trainer)
        return cls(backend)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> Tensor:
        tokens = self.backend.encode(check_unicode(text), add_special_tokens=False).ids
        return torch.from_numpy(np.array(tokens, dtype=smallest_int_dtype(self.vocab_size)))

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token]

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "bpe", "engine": self.backend.to_str()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        try:
            backend = Backend.from_str(state["engine"])
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"tokenizer: {error}") from None
        return cls(backend)


def _byte_decoder() -> dict[str, int]:
    """Map the characters in byte-level token names to bytes: GPT-2's alphabet, where printable bytes are themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(N_BYTES) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(N_BYTES + n): byte for n, byte in enumerate(others)}


BYTE_DECODER = _byte_decoder()
