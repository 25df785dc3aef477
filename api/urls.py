"""Where the client found this API: every URL in an answer begins with it."""

import re

from flask import request

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def base_url() -> str:
    """Scheme and host as the client called them, without a slash at the end; empty (URLs are relative) if it named no usable host."""
    environ = request.environ
    host = environ.get("HTTP_HOST", "")
    return f"{environ['wsgi.url_scheme']}://{host}" if _HOST.fullmatch(host) else ""
