"""Prefixed, time-sortable public ids over UUIDv7 (RFC 9562), in lower-case Crockford base32.

A UUID is what the database stores; ``job_01k…`` is what a client sees. Both sort by creation time.
"""

from enum import StrEnum
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE = {char: value for value, char in enumerate(_ALPHABET)}
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
BODY_CHARS = 26  # 26 × 5 bits hold 128 bits; the first character is 0–7


class Prefix(StrEnum):
    """What an id names; the part before the underscore."""

    JOB = "job"
    ATTEMPT = "att"
    BATCH = "bat"
    FILE = "file"
    KEY = "key"
    TENANT = "ten"
    ENDPOINT = "whe"
    EVENT = "evt"
    DELIVERY = "dlv"


def uuid7(unix_ms: int, entropy: bytes) -> UUID:
    """Builds a UUIDv7 from a time and ten random bytes.

    Args:
        unix_ms: milliseconds since the epoch, 48 bits.
        entropy: ten bytes; 74 bits of them are used.
    """
    random_bits = int.from_bytes(entropy[:10])
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (random_bits >> 68 & 0xFFF) << 64 | 0b10 << 62 | random_bits & (1 << 62) - 1
    return UUID(int=value)


def encode(prefix: Prefix, value: UUID) -> str:
    """The public form of an id, for example ``job_01k8…`` (26 characters after the underscore)."""
    number = value.int
    pairs = [""] * 13
    for place in range(12, -1, -1):
        pairs[place] = _PAIRS[number & 1023]
        number >>= 10
    return f"{prefix}_{''.join(pairs)}"


def decode(prefix: Prefix, text: str) -> UUID | None:
    """The UUID behind a public id, or None when the text is no such id (the caller answers as for an unknown one)."""
    head, underscore, body = text.partition("_")
    if head != prefix or not underscore or len(body) != BODY_CHARS or body[0] > "7":
        return None
    number = 0
    for char in body:
        value = _VALUE.get(char)
        if value is None:
            return None
        number = number << 5 | value
    return UUID(int=number)
