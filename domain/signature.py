"""Standard Webhooks 1.0.0: how a delivery is signed, so that any of its libraries can verify it."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from hashlib import sha256

PREFIX = "whsec_"


class BadSecret(ValueError):
    """A signing secret is not ``whsec_`` and base64; the message does not show it."""


def decode_secret(secret: str) -> bytes:
    """The key behind a secret; its prefix and the padding at its end may be missing.

    Raises:
        BadSecret: it is no base64, or empty.
    """
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSecret("a signing secret is not base64") from error
    if not key:
        raise BadSecret("a signing secret is empty")
    return key


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature: ``v1,`` and base64 of HMAC-SHA256 over ``id.timestamp.body``.

    Args:
        secret: ``whsec_…``.
        message_id: the event's id; holds no dot.
        timestamp: unix seconds of the try.
        body: the bytes that are sent.

    Raises:
        BadSecret: the secret is none.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    # not `hmac.digest`: that gives the interpreter's lock away for every message, this one for long ones alone
    return "v1," + base64.b64encode(hmac.new(decode_secret(secret), signed, sha256).digest()).decode()


def signature_headers(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery, with a signature by each secret, the newest first.

    Raises:
        BadSecret: a secret is none.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in secrets),
    }
