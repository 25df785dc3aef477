"""What must not leave the process in a log line or an error report: secrets, and what people send to models."""

import re
from typing import Any

REDACTED = "[redacted]"

SECRET_FIELDS = frozenset({"api_key", "authorization", "bootstrap_key", "cookie", "dsn", "key", "password", "secret", "sentry_dsn", "signature", "token"})
CONTENT_FIELDS = frozenset({"audio", "image", "input", "input_json", "messages", "metadata", "output", "output_json", "payload", "prompt", "text", "texts"})

_SECRET_ENDING = re.compile(r"(^|[_-])(key|password|passwd|secret|token|dsn)$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]+(?=@)", re.IGNORECASE)
_MADE_KEY = re.compile(r"\b(mp_[0-9A-Za-z]{8})_[0-9A-Za-z]+")
_BEARER = re.compile(r"(?i)\b(bearer\s+)\S+")


def is_private(name: str) -> bool:
    """Whether a field of this name holds a secret or content, whatever its value is."""
    lowered = name.lower()
    return lowered in SECRET_FIELDS or lowered in CONTENT_FIELDS or _SECRET_ENDING.search(lowered) is not None


def redact_text(text: str) -> str:
    """Text without passwords of URLs, bearer tokens and the secret part of keys."""
    text = _URL_PASSWORD.sub(rf"\g<head>{REDACTED}", text)
    text = _MADE_KEY.sub(r"\1_…", text)
    return _BEARER.sub(rf"\1{REDACTED}", text)


def redact(value: Any) -> Any:
    """A copy of a value without secrets and content, at any depth."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {name: REDACTED if isinstance(name, str) and is_private(name) else redact(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return value
