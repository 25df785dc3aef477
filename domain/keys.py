"""API keys: how one is written, told from a mistyped one, and hashed. The key itself is stored nowhere.

A key made here is ``mp_<8 characters>_<43 characters><6 characters>``: a public part by which people tell keys apart, 256
random bits in base62, and the CRC-32 of all before it, so that a typing mistake is refused without asking the database.
A first key given from outside may be any 8 to 255 visible ASCII characters.
"""

import re
import string
import zlib
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

PREFIX = "mp_"
HINT_CHARS = 11  # the prefix and the public part
MIN_CHARS = 8
MIN_CHARS_IN_PRODUCTION = 32
MAX_CHARS = 255

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_MADE = re.compile(r"mp_[0-9A-Za-z]{8}_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_VISIBLE = re.compile(r"[!-~]{8,255}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the key, and the tenant that it belongs to."""

    tenant_id: UUID
    key_id: UUID


def make_key(public_entropy: bytes, secret_entropy: bytes) -> str:
    """Writes a key.

    Args:
        public_entropy: 6 random bytes, shown in lists.
        secret_entropy: 32 random bytes.
    """
    head = f"{PREFIX}{_base62(int.from_bytes(public_entropy), 8)}_{_base62(int.from_bytes(secret_entropy), 43)}"
    return head + _checksum(head)


def may_be_valid(key: str) -> bool:
    """Whether a key is worth a look in the database: well formed, and free of typing mistakes if this project made it."""
    if key.startswith(PREFIX):
        return _MADE.fullmatch(key) is not None and key[-6:] == _checksum(key[:-6])
    return _VISIBLE.fullmatch(key) is not None


def hash_key(key: str) -> bytes:
    """What the database stores: SHA-256. A key holds 256 random bits, so nothing slower is needed."""
    return sha256(key.encode()).digest()


def hint_of(key: str) -> str:
    """The part of a key that may be shown: the public part of a made one, else its first three characters."""
    return key[:HINT_CHARS] if key.startswith(PREFIX) else key[:3] + "…"


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
