"""Servers of a test's own that it may stop and start as it likes: nobody else depends on them."""

import contextlib
import os
import pwd
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg2

from cli.embedded.postgres import find_binaries
from tests.support.platform import free_port
from tests.support.waiting import wait_until


class OwnPostgres:
    """A PostgreSQL cluster: the oldest that is installed on this machine, or the embedded one.

    Args:
        folder: for its data; made readable by the user it runs as.
        embedded: take the wheel's.
    """

    def __init__(self, folder: Path, *, embedded: bool) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._port = free_port()
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self._binaries = find_binaries() if embedded or not installed else installed[0]
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self._postgres: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._data.mkdir(parents=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self._data, user.pw_uid, user.pw_gid)
        subprocess.run(
            [*self._as_somebody(), str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.crash()
        shutil.rmtree(self._data, ignore_errors=True)

    def start(self) -> None:
        """Starts it and waits until it answers, after recovery if there is any to do."""
        with self._log.open("ab") as log:
            self._postgres = subprocess.Popen(
                [*self._as_somebody(), str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self._port), "-c", "unix_socket_directories="],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, 30.0, what="PostgreSQL to answer")

    def crash(self) -> None:
        """Ends it at once, without a checkpoint, as ``pg_ctl stop -m immediate`` does."""
        if self._postgres is not None:
            self._postgres.send_signal(3)
            self._postgres.wait(20.0)
            self._postgres = None

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError), closing(psycopg2.connect(self.url, connect_timeout=2)):
            return True
        return False

    @staticmethod
    def _as_somebody() -> list[str]:
        """It refuses to run as root."""
        if os.geteuid() != 0:
            return []
        user = pwd.getpwnam("nobody")
        drop = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return ["setpriv", *drop, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup", "--"]


class OwnRabbitmq:
    """A RabbitMQ node beside the machine's, with ports, an Erlang port mapper, data and a cookie of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._node = f"millpond{self._port}@localhost"
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        self._mapper_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = Path(os.path.realpath(shutil.which("rabbitmqctl") or "/usr/lib/rabbitmq/bin/rabbitmqctl")).parent
        if not (self._programs / "rabbitmq-server").exists() or self._programs == Path("/usr/sbin"):
            self._programs = Path("/usr/lib/rabbitmq/bin")  # Debian's commands on the PATH change to the user rabbitmq
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/none",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "plugins").write_text("[].\n")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.crash()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.name() == "epmd" and process.environ().get("ERL_EPMD_PORT") == str(self._mapper_port):
                    process.kill()

    def start(self) -> None:
        """Boots the node, some five to ten seconds, and waits until it takes connections."""
        with (self._folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "rabbitmq-server")], env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._control("await_startup")

    def crash(self) -> None:
        """Kills the node."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]:
                    if process.name() != "epmd":
                        with contextlib.suppress(psutil.NoSuchProcess):
                            process.kill()
            self._process.wait(20.0)
            self._process = None

    def stop_broker(self) -> None:
        """Stops the broker in good order; the Erlang node stays, so that it starts again in a second or two."""
        self._control("stop_app")

    def start_broker(self) -> None:
        self._control("start_app")

    def evaluate(self, expression: str) -> None:
        """Has the node evaluate Erlang, for settings that are read as it runs."""
        self._control("eval", expression)

    def _control(self, *arguments: str) -> None:
        def done() -> bool:
            result = subprocess.run(
                [str(self._programs / "rabbitmqctl"), "-n", self._node, *arguments], env=self._environment, capture_output=True, timeout=90, check=False
            )
            return result.returncode == 0

        wait_until(done, 60.0, what=f"rabbitmqctl {' '.join(arguments)}", every_s=0.3)
