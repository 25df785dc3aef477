"""Talks to the HTTP API for the commands that a person types; answers and errors are shown for people."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from cli.address import url_of
from domain.errors import ConfigurationError, MillpondError
from settings import Settings, load_settings

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
KEY_FILE = "bootstrap_key"  # in the state folder; `millpond up` writes it

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Refused(MillpondError):
    """The API refused the request."""

    code = "refused"


class Busy(Refused):
    """The API refused the request for now; the same request may succeed later."""

    retryable = True


class Unreachable(MillpondError):
    """The API does not answer."""

    code = "unreachable"


def options(command: _Command) -> _Command:
    """Adds ``--url`` and ``--key``."""
    key = click.option("--key", envvar="MILLPOND_KEY", help="API key; else the one of the state folder.")
    url = click.option("--url", envvar="MILLPOND_URL", help="Where the API is; else host and port of the settings.")
    return url(key(command))


class Client:
    """One API and one key.

    Args:
        url: the API's address; from the settings unless given.
        key: from the environment or the state folder unless given.

    Raises:
        ConfigurationError: no key is found anywhere.
    """

    def __init__(self, url: str | None, key: str | None) -> None:
        settings = load_settings()
        self._url = (url or url_of(settings)).rstrip("/")
        self._key = key or _default_key(settings)
        # One TLS context for all calls, since it takes long to make; and no connection is kept, since it may be stale at the next call.
        self._http = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))

    def call(self, method: str, path: str, *, wait_s: int | None = None, headers: dict[str, str] | None = None, body: object = None) -> Any:
        """Sends a request and reads the JSON of its answer.

        Raises:
            Refused: the API answered with a problem.
            Unreachable: it did not answer, or not as this API does.
        """
        sent = {"Authorization": f"Bearer {self._key}", **(headers or {})}
        if wait_s:
            sent["Prefer"] = f"wait={wait_s}"
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S + (wait_s or 0), connect=CONNECT_TIMEOUT_S)
        try:
            answer = self._http.request(method, self._url + path, headers=sent, json=body, timeout=timeout)
            content = answer.json()
        except httpx.HTTPError as error:
            raise Unreachable(f"{self._url} does not answer ({error}); is the API running there? `millpond up` starts it, `--url` says where it is") from error
        except ValueError as error:
            raise Unreachable(f"{self._url} answered {answer.status_code} without JSON; is that the Millpond API?") from error
        if answer.is_error:
            later = isinstance(content, dict) and content.get("retryable") is True
            raise (Busy if later else Refused)(problem_text(content, answer.status_code))
        return content


def problem_text(problem: object, status: int) -> str:
    """A problem document (RFC 9457) as text: what, where, and the id by which the server's logs know it."""
    if not isinstance(problem, dict) or "code" not in problem:
        return f"the API answered {status}"
    lines = [f"{problem.get('detail') or problem.get('title') or 'refused'} ({problem['code']}, {status})"]
    lines += [f"  {error.get('pointer') or '/'}: {error.get('message')}" for error in problem.get("errors", [])]
    if problem.get("retry_after_s"):
        lines.append(f"  try again in {problem['retry_after_s']:g} s")
    if status >= 500 and problem.get("request_id"):
        lines.append(f"  request id {problem['request_id']}")
    return "\n".join(lines)


def _default_key(settings: Settings) -> str:
    if settings.bootstrap_key is not None:
        return settings.bootstrap_key.get_secret_value()
    path: Path = settings.state_dir / KEY_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        named = "MILLPOND_STATE_DIR" if "state_dir" in settings.model_fields_set else "the current folder"
        raise ConfigurationError(f"MILLPOND_KEY: give a key with --key or in MILLPOND_KEY; there is none in {path} ({named})") from error
