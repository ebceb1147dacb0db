"""Byte-level byte-pair encoding, trained on the training split (Sennrich et al. 2016)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gptladder.data.byte_alphabet import N_BYTES, read_bytes
from gptladder.data.distinct_words import DistinctWords
from gptladder.data.text import Corpus
from gptladder.data.tokenizer import Tokenizer, check_unicode, smallest_int_dtype
from gptladder.system.commands import install_command
from gptladder.system.errors import UserError

try:
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
except ModuleNotFoundError:
    raise UserError(f"tokenizer=bpe needs Hugging Face's tokenizers: {install_command('bpe')} installs it") from None

# Up to this number of characters a text is encoded as a whole.
SHORT_TEXT = 2**14

PARALLELISM = "TOKENIZERS_PARALLELISM"  # the library's variable: whether it uses all cores


class BPETokenizer(Tokenizer):
    """One token per byte, plus the most frequent merges of them; every text can be encoded and decoded unchanged.

    Args:
        backend: a tokenizer of the library ``tokenizers``, byte-level and without normalization.
    """

    has_merges = True  # learned from the text, which takes long for a large one

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        backend.encode_special_tokens = True  # text that looks like a special token is text
        backend.no_truncation()
        backend.no_padding()
        vocabulary = sorted(backend.get_vocab().items(), key=lambda item: item[1])
        if [token for _, token in vocabulary] != list(range(len(vocabulary))):
            raise ValueError("the token ids do not count up from 0 without a gap")
        self._bytes = [read_bytes(name) for name, _ in vocabulary]
        self._dtype = smallest_int_dtype(len(vocabulary))
        self._words = DistinctWords(self._encode_batch, self._bytes)

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
        if len(check_unicode(text)) > SHORT_TEXT:
            return torch.from_numpy(self._words.encode(text))
        return torch.from_numpy(np.array(self.backend.encode(text, add_special_tokens=False).ids, dtype=self._dtype))

    def _encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode several texts, on all cores."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[token]

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "bpe", "engine": self.backend.to_str()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        try:
            check_byte_level(json.loads(state["engine"]))
            backend = Backend.from_str(state["engine"])
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"tokenizer: {error}") from None
        return cls(backend)


def check_byte_level(description: Mapping[str, Any]) -> None:
    """Check that a tokenizer of the library works as GPT-2's does: on bytes, split into words by its pattern.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it does not; the message names what differs.
    """
    model, words = description["model"], description["pre_tokenizer"]
    found = {
        "model": (model.get("type"), "BPE"),
        "normalizer": (description.get("normalizer"), None),
        "pre_tokenizer": (words and words.get("type"), "ByteLevel"),
        "add_prefix_space": (words and words.get("add_prefix_space"), False),
        "use_regex": (words and words.get("use_regex", True), True),
        "dropout": (model.get("dropout"), None),
        "continuing_subword_prefix": (model.get("continuing_subword_prefix") or None, None),
        "end_of_word_suffix": (model.get("end_of_word_suffix") or None, None),
        "byte_fallback": (model.get("byte_fallback", False), False),
        "ignore_merges": (model.get("ignore_merges", False), False),
        "a token of its own": (
            next((t["content"] for t in description["added_tokens"] if not t["special"]), None),
            None,
        ),
    }
    for key, (value, needed) in found.items():
        if value != needed:
            raise ValueError(f"{key} is {json.dumps(value):.40}, not {json.dumps(needed)}")


def _stop_parallelism() -> None:
    """Before a fork: the new process has no threads, and would wait for them without end.

    The library notices a fork too, and prints five lines about it.
    """
    global _setting
    _setting = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "false"


def _restore_parallelism() -> None:
    if _setting is None:
        del os.environ[PARALLELISM]
    else:
        os.environ[PARALLELISM] = _setting


_setting: str | None = None
os.register_at_fork(before=_stop_parallelism, after_in_parent=_restore_parallelism)
