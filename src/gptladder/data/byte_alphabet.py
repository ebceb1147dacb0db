"""The characters that byte-level tokenizers write for bytes: GPT-2's alphabet, where printable bytes are themselves."""

from __future__ import annotations

N_BYTES = 256


def _byte_decoder() -> dict[str, int]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(N_BYTES) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(N_BYTES + n): byte for n, byte in enumerate(others)}


BYTE_DECODER = _byte_decoder()
BYTE_ENCODER = {byte: character for character, byte in BYTE_DECODER.items()}


def write_bytes(content: bytes) -> str:
    """Bytes in the alphabet: ``Ġthe`` for a space and ``the``."""
    return "".join(map(BYTE_ENCODER.__getitem__, content))


def read_bytes(name: str) -> bytes:
    """The bytes that a name in the alphabet stands for; a name that is not written in it stands for its UTF-8."""
    try:
        return bytes(map(BYTE_DECODER.__getitem__, name))
    except KeyError:
        return name.encode()
