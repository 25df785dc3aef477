"""Who calls: checks the key of a request, and remembers the answer for at most five seconds."""

import time
from collections.abc import Callable
from hashlib import sha256
from typing import cast

from flask import g

from domain.errors import InvalidKey, MissingKey
from domain.keys import Principal, hash_key, may_be_valid

CACHE_S = 5.0
CACHE_KEYS = 10_000


class KeyCheck:
    """Looks keys up by their hash, and remembers good and bad ones alike, by the hash of their header; a revoked key works for 5 s more at most.

    Args:
        find: asks the database; None when no valid key has this hash.
        clock: seconds, monotonic.
    """

    def __init__(self, find: Callable[[bytes], Principal | None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._clock = clock
        self._known: dict[bytes, tuple[float, Principal | None]] = {}

    def __call__(self, authorization: str | None) -> Principal:
        """The caller behind an ``Authorization`` header.

        Raises:
            MissingKey: there is no such header.
            InvalidKey: it is malformed, mistyped, unknown, revoked or expired; which of them is not said.
            DatabaseAway: it could not be asked.
        """
        if not authorization:
            raise MissingKey
        now = self._clock()
        header_hash = sha256(authorization.encode()).digest()
        known = self._known.get(header_hash)
        principal = known[1] if known is not None and known[0] > now else self._lookup(authorization, header_hash, now)
        if principal is None:
            raise InvalidKey
        return principal

    def _lookup(self, authorization: str, header_hash: bytes, now: float) -> Principal | None:
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not may_be_valid(key):
            return None
        principal = self._find(hash_key(key))
        if len(self._known) >= CACHE_KEYS:
            self._known.clear()
        self._known[header_hash] = (now + CACHE_S, principal)
        return principal


def principal() -> Principal:
    """Who makes this request; only under ``/v1``, where a key is always asked for."""
    return cast("Principal", g.principal)
