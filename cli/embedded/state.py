"""The state folder: what the embedded servers keep from one start to the next, and who may use it now."""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from cli.embedded.processes import Process
from domain.errors import ConfigurationError

# Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: a connection of some other
# program cannot sit on ours while its server is down.
_FIRST_PORT = 15_000
_PORTS = 17_000
_GITIGNORE = ".gitignore"
_LOCK = "up.lock"
_PROCESSES = "processes.json"


def _password() -> str:
    return secrets.token_hex(24)  # hexadecimal: it needs no quoting in a URL, in SQL or in a configuration file


class StateFolder:
    """One folder with everything of one embedded Millpond: databases, weights, logs, passwords.

    Attributes:
        root: its absolute path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        """Where each process has its log."""
        return self.root / "logs"

    @property
    def models(self) -> Path:
        """Where the weights are."""
        return self.root / "models"

    def create(self) -> None:
        """Makes the folder, for this user's eyes only, and hides it from git; leaves one that is there as it is.

        Raises:
            ConfigurationError: it cannot be made or written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if {entry.name for entry in self.root.iterdir()} <= {self.models.name}:  # a folder with something else in it is not ours to hide
                (self.root / _GITIGNORE).write_text("*\n", encoding="utf-8")
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"MILLPOND_STATE_DIR: {self.root} cannot be used: {error.strerror}") from error

    def acquire(self, wait: Callable[[], bool]) -> None:
        """Takes the folder for this process and its guard; it is free again when both are gone, however they end.

        Args:
            wait: asked while the folder is taken by a run whose parent has died and which is being cleared away; false gives up.

        Raises:
            ConfigurationError: it is in use.
        """
        lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = _owner(lock)
                if owner.alive() or not wait():
                    os.close(lock)
                    raise ConfigurationError(
                        f"another `millpond up` (process {owner.pid}) is using {self.root}; stop it, or choose another folder: MILLPOND_STATE_DIR=…"
                    ) from error
            else:
                break
        os.truncate(lock, 0)
        os.pwrite(lock, json.dumps(Process.of("up", os.getpid()).as_dict()).encode(), 0)
        self._lock = lock

    @property
    def lock(self) -> int:
        """The descriptor of the lock; the guard inherits it, so that a new start waits until a dead one is cleared away."""
        assert self._lock is not None, "acquire() comes first"
        return self._lock

    def release(self) -> None:
        """Gives the folder free, as far as this process is concerned."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str, make: Callable[[], str] = _password) -> str:
        """A password that is made once and kept, readable by this user alone.

        Args:
            name: of its file.
            make: called if it is not there yet.
        """
        path = self.root / name
        if path.exists():
            return path.read_text(encoding="ascii").strip()
        value = make()
        self.keep(name, value)
        return value

    def keep(self, name: str, value: str) -> None:
        """Keeps a password that was given."""
        write_private(self.root / name, f"{value}\n")

    def port(self, name: str) -> int:
        """A port on this machine for a server of our own: the one of the last start, unless somebody else has it now."""
        path = self.root / f"{name}.port"
        try:
            port = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            port = 0
        while not port or not _is_free(port):
            port = _FIRST_PORT + secrets.randbelow(_PORTS)
        write_private(path, f"{port}\n")
        return port

    def record(self, processes: Iterable[Process]) -> None:
        """Notes which processes run, for the guard and for the next start."""
        write_private(self.root / _PROCESSES, json.dumps([process.as_dict() for process in processes], indent=1) + "\n")

    def recorded(self) -> list[Process]:
        """The processes that were noted last; some or all of them may be gone."""
        try:
            document = json.loads((self.root / _PROCESSES).read_text(encoding="utf-8"))
            return [Process(**entry) for entry in document]
        except (OSError, ValueError, TypeError):
            return []


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once, so that a crash leaves the old or the new one; readable by this user alone."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    temporary.replace(path)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers from a connection that ended does not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _owner(lock: int) -> Process:
    try:
        return Process(**json.loads(os.pread(lock, 4_096, 0)))
    except (ValueError, TypeError):  # it took the lock a moment ago and has not written yet
        return Process("up", 0, "")
