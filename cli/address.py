"""Where the API is; apart from the client, whose HTTP library a server need not import."""

from settings import Settings


def url_of(settings: Settings) -> str:
    """Where the API is that the settings describe, as a client on the same machine calls it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - the address to call, not one to listen on
    return f"http://{host}:{settings.port}"
