"""Byte-level byte-pair encoding: tokens learnt from the training split (Sennrich et al. 2016)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.text import Text
from gptladder.data.tokenizer import Tokenizer, check_unicode, smallest
from gptladder.system.errors import UserError

BYTES = 256  # tokens before the first pair is joined: any text can be said in them

try:
    from tokenizers import Tokenizer as Engine
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
except ModuleNotFoundError:
    raise UserError("tokenizer=bpe needs Hugging Face's tokenizers: pip install -e '.[bpe]' brings it") from None


class BPETokenizer(Tokenizer):
    """Bytes, and what they are most often joined to; every text can be encoded and comes back as it was.

    Args:
        engine: of the library ``tokenizers``, byte-level, without normalisation.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        vocabulary = sorted(engine.get_vocab().items(), key=lambda item: item[1])
        if [number for _, number in vocabulary] != list(range(len(vocabulary))):
            raise ValueError("the tokens are not numbered from 0 without a gap")
        self._bytes = [bytes(map(BYTE_OF.__getitem__, name)) for name, _ in vocabulary]

    @classmethod
    def from_text(cls, train: str | Text, *_: str | Text, vocab_size: int) -> Self:
        """Learn the tokens from a training split; the validation split is not looked at.

        Args:
            train: the text to learn from.
            vocab_size: how many tokens at most; a short text has fewer pairs worth joining.

        Raises:
            UserError: the size is no whole number, or leaves no room for the bytes.
        """
        if type(vocab_size) is not int or vocab_size < BYTES:
            raise UserError(f"tokenizer.vocab_size={vocab_size} must be a whole number of at least {BYTES}, the bytes")
        engine = Engine(BPE())
        engine.pre_tokenizer = ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(vocab_size=vocab_size, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
        engine.train_from_iterator([train] if isinstance(train, str) else train, trainer)
        return cls(engine)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> Tensor:
        numbers = self.engine.encode(check_unicode(text), add_special_tokens=False).ids
        return torch.from_numpy(np.array(numbers, dtype=smallest(self.vocab_size)))

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token]

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "bpe", "engine": self.engine.to_str()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        try:
            engine = Engine.from_str(state["engine"])
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"tokenizer: {error}") from None
        return cls(engine)


def _byte_of() -> dict[str, int]:
    """What the characters that name a byte-level token stand for: GPT-2's alphabet, printable bytes as themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(BYTES + n): byte for n, byte in enumerate(others)}


BYTE_OF = _byte_of()
