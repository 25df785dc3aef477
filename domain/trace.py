"""W3C trace context: what is asked of others on a caller's behalf belongs to the caller's trace."""

import re

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")


def is_traceparent(value: str) -> bool:
    """Whether it is a ``traceparent`` header of version 00, or of a later one in the same form."""
    return _TRACEPARENT.fullmatch(value) is not None


def continued(traceparent: str | None, parent_id: bytes) -> dict[str, str]:
    """The header for a request to another service: the same trace, a new parent; empty where there is no trace.

    Args:
        traceparent: as it was accepted.
        parent_id: 8 random bytes, which name the request.
    """
    read = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    return {"traceparent": f"00-{read['trace']}-{parent_id.hex()}-{read['flags']}"} if read else {}
