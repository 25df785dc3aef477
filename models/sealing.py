"""Signing secrets: made here, and sealed before they are stored, so that a dump of the database holds none."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken

SECRET_PREFIX = "whsec_"  # noqa: S105 - Standard Webhooks' mark of a secret, not one
SECRET_BYTES = 32  # Standard Webhooks allows 24 to 64
_KEY_ID_CHARS = 8


class UnknownSealingKey(Exception):
    """None of the settings' keys opens what was sealed."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed text.

    Attributes:
        sealed: what to store.
        key_id: which key sealed it.
    """

    sealed: bytes
    key_id: str


class Sealer:
    """Seals with the first of its keys and opens with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Takes keys as ``make_sealing_key`` makes them.

        Raises:
            ValueError: there is none, or one is not 32 bytes in URL-safe base64. The message names its place, not the key.
        """
        if not keys:
            raise ValueError("there is no sealing key")
        self._fernets: list[Fernet] = []
        for place, key in enumerate(keys, start=1):
            try:
                self._fernets.append(Fernet(key.strip()))
            except ValueError:
                raise ValueError(f"sealing key {place} is not 32 bytes in URL-safe base64") from None
        self.key_id = sha256(keys[0].strip().encode()).hexdigest()[:_KEY_ID_CHARS]

    def seal(self, text: str) -> Sealed:
        """Seals a text with the first key; twice gives two different results."""
        return Sealed(self._fernets[0].encrypt(text.encode()), self.key_id)

    def unseal(self, sealed: bytes) -> str:
        """The text again.

        Raises:
            UnknownSealingKey: no key opens it, or it was changed.
        """
        for fernet in self._fernets:
            try:
                return fernet.decrypt(sealed).decode()
            except InvalidToken:
                continue
        raise UnknownSealingKey("none of the sealing keys opens this secret")


def new_secret() -> str:
    """A new signing secret: ``whsec_`` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def make_sealing_key() -> str:
    """A new key for ``Sealer``."""
    return Fernet.generate_key().decode()
