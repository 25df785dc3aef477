"""Where the servers are, and where the API is found: what the settings say, else what `millpond up` runs from the state folder."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from cli.address import url_of
from cli.embedded.postgres import DATABASE, ROLE
from cli.embedded.state import StateFolder
from domain.errors import ConfigurationError
from settings import Settings


def database_url(settings: Settings) -> str:
    """The database's URL.

    Raises:
        ConfigurationError: there is none.
    """
    return _url(settings, settings.database_url, "MILLPOND_DATABASE_URL", "postgres", lambda password, port: f"{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}")


def broker_url(settings: Settings) -> str:
    """The broker's URL.

    Raises:
        ConfigurationError: there is none.
    """
    return _url(settings, settings.broker_url, "MILLPOND_BROKER_URL", "valkey", lambda password, port: f":{password}@127.0.0.1:{port}/0")


def redis_url(settings: Settings) -> str:
    """The URL of Redis or Valkey.

    Raises:
        ConfigurationError: there is none.
    """
    return _url(settings, settings.redis_url, "MILLPOND_REDIS_URL", "valkey", lambda password, port: f":{password}@127.0.0.1:{port}/1")


def public_url(settings: Settings) -> str:
    """Where clients find the API, without a slash at the end: what URLs begin with where no request says how it was called."""
    return (settings.public_url or url_of(settings)).rstrip("/")


_SCHEMES = {"postgres": "postgresql", "valkey": "redis"}


def _url(settings: Settings, given: SecretStr | None, variable: str, server: str, rest: Callable[[str, str], str]) -> str:
    """Reads the port and the password that a running embedded server was started with; asks nobody, changes nothing."""
    if given is not None:
        return given.get_secret_value()
    state = StateFolder(settings.state_dir)
    if not any(process.name == server and process.alive() for process in state.recorded()):
        raise ConfigurationError(f"{variable}: is not set, and no embedded {server} runs from {state.root}; `millpond up` starts one")
    return f"{_SCHEMES[server]}://{rest(_read(state.root / f'{server}.password'), _read(state.root / f'{server}.port'))}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"MILLPOND_STATE_DIR: {path} cannot be read: {error.strerror}") from error
