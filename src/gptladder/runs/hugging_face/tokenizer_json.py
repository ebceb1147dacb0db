"""Our tokenizers as the ``tokenizer.json`` of Hugging Face's ``tokenizers``, and back.

Nothing is normalized, no special token is added, and no space is cleaned up, so that decoding gives back the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from gptladder.data.byte_alphabet import write_bytes
from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.runs.checkpoint import build_tokenizer
from gptladder.system.errors import UserError

if TYPE_CHECKING:
    from gptladder.data.gpt2_tokenizer import GPT2Tokenizer

# Every character by itself, line ends included, which "." would not match.
ONE_CHARACTER = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}

# The vocabulary has no such token: a character outside of it is an error, as it is for our tokenizer.
UNKNOWN = "<unknown>"


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json``.

    Raises:
        UserError: it is not one of our tokenizers.
    """
    state = tokenizer.state_dict()
    if isinstance(tokenizer, CharTokenizer):
        vocabulary = {character: token for token, character in enumerate(tokenizer.vocabulary)}
        model: dict[str, Any] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN}
        return _describe(model, pre_tokenizer=ONE_CHARACTER, decoder={"type": "Fuse"})
    if state.get("kind") == "bpe":
        return {**json.loads(state["engine"]), "decoder": BYTE_LEVEL}
    if state.get("kind") == "gpt2":
        tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        special = {token.encode() for token in cast("GPT2Tokenizer", tokenizer).encoding.special_tokens_set}
        model = {
            "type": "BPE",
            # Special tokens are entries like any other, because our tokenizer takes text that looks like one as text.
            "vocab": {write_bytes(content): token for token, content in enumerate(tokens)},
            "merges": [f"{write_bytes(left)} {write_bytes(right)}" for left, right in _merges(tokens, special)],
        }
        return _describe(model, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL)
    raise UserError(f"--format hf knows the tokenizers char, bpe and gpt2, not {type(tokenizer).__name__}")


def tokenizer_settings(description: Any) -> tuple[str, dict[str, Any]]:
    """Which of our tokenizers a ``tokenizer.json`` is, and its settings in a config.

    Raises:
        UserError: it is none of ours.
    """
    if _vocabulary_of_characters(description) is not None:
        return "char", {}
    return "bpe", {"vocab_size": len(byte_level_tokens(description))}


def build_from_json(description: Any) -> Tokenizer:
    """Our tokenizer from a ``tokenizer.json`` that ``tokenizer_settings`` accepts.

    Raises:
        UserError: the library ``tokenizers`` is needed and not installed, or refuses it.
    """
    characters = _vocabulary_of_characters(description)
    if characters is not None:
        return CharTokenizer(characters)
    try:
        return build_tokenizer({"kind": "bpe", "engine": json.dumps(description)})
    except ValueError as error:
        raise UserError(f"tokenizer.json cannot be read ({error}): take another copy of the model") from None


def byte_level_tokens(description: Any) -> list[str]:
    """The names of the tokens of GPT-2's kind of byte-pair encoding, by token id.

    Raises:
        UserError: it is another kind of tokenizer.
    """
    from gptladder.data.bpe import check_byte_level

    try:
        check_byte_level(description)
        model, added = description["model"], description.get("added_tokens") or []
        vocabulary = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        if [vocabulary[name] for name in names] != list(range(len(names))):
            raise ValueError("the token ids do not count up from 0 without a gap")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"tokenizer.json is neither a tokenizer of single characters nor GPT-2's byte-level BPE ({error}): "
            "use a model that has one of them"
        ) from None
    return names


def _describe(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    absent = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": [], **dict.fromkeys(absent), **parts, "model": model}


def _vocabulary_of_characters(description: Any) -> str | None:
    """The characters of a tokenizer that ``describe_tokenizer`` wrote, by token id; ``None`` for any other."""
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        raise UserError("tokenizer.json describes no tokenizer: take a complete copy of the model")
    model = description["model"]
    parts = [description.get(key) for key in ("pre_tokenizer", "normalizer", "post_processor", "added_tokens")]
    if model.get("type") != "WordLevel" or parts != [ONE_CHARACTER, None, None, []]:
        return None
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or sorted(map(str, vocabulary.values())) != sorted(
        map(str, range(len(vocabulary)))
    ):
        return None
    characters = "".join(sorted(vocabulary, key=vocabulary.__getitem__))
    return characters if len(characters) == len(vocabulary) and all(len(c) == 1 for c in vocabulary) else None


def _merges(tokens: list[bytes], special: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The pair of tokens that each longer token merges, in the order in which they were learned.

    Args:
        special: tokens that no merge makes.
    """
    ranks: dict[bytes, int] = {}
    for rank, content in enumerate(tokens):
        parts = [content[i : i + 1] for i in range(len(content))] if content not in special else []
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
            i = pairs.index(min(pairs))
            if pairs[i] == rank:
                raise ValueError(f"no two earlier tokens make {content!r}")
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]
        ranks[content] = rank
