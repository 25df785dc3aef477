"""What runs on one machine, in which order: the servers that the settings do not name, then the same processes as in production."""

import sys
from collections.abc import Sequence

from pydantic import SecretStr

from cli.embedded.child import Spec
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.server import START_TIMEOUT_S, EmbeddedServer
from cli.embedded.state import StateFolder
from cli.embedded.supervisor import Supervisor, child_environment
from cli.embedded.valkey import EmbeddedValkey
from models.sealing import make_sealing_key
from settings import Settings

WORKER_PREFIX = "worker-"
SEALING_KEY_FILE = "sealing_key"  # in the state folder
_WORKER_DRAIN_S = 5.0  # less than the supervisor's 7: a worker gives back itself what it could not finish


class Stack:
    """The processes of one Millpond on one machine.

    Args:
        settings: where they name no server, an embedded one is started.
        state: the folder, which the supervisor has taken.
        supervisor: runs it all.
    """

    def __init__(self, settings: Settings, state: StateFolder, supervisor: Supervisor) -> None:
        self._settings = settings
        self._state = state
        self._supervisor = supervisor
        self._postgres = EmbeddedPostgres(state)
        self._valkey = EmbeddedValkey(state)
        self._environment: dict[str, str] = {}

    @property
    def servers(self) -> list[EmbeddedServer]:
        """The embedded servers that are needed; the quicker to start first."""
        needed: list[EmbeddedServer] = []
        if self._settings.broker_url is None or self._settings.redis_url is None:
            needed.append(self._valkey)
        if self._settings.database_url is None:
            needed.append(self._postgres)
        return needed

    @property
    def database_url(self) -> str:
        """The database that is used."""
        return _given(self._settings.database_url) or self._postgres.url

    def start_servers(self) -> None:
        """Starts the embedded servers; they become ready while something else is done.

        Raises:
            ConfigurationError: a server is missing on this machine, or does not fit what the state folder holds.
            StartFailed: the first start of a server failed.
        """
        for server in self.servers:
            self._supervisor.start(server.prepare())

    def start_processes(self, key: str, pools: Sequence[str]) -> None:
        """Waits for the servers, brings the database to the newest schema, and starts the platform's own processes.

        Args:
            key: the first API key.
            pools: a worker is started for each.

        Raises:
            StartFailed: a server or the migration failed.
        """
        for server in self.servers:
            self._supervisor.wait_until(server.ready, timeout_s=START_TIMEOUT_S, what=f"waiting for {type(server).__name__.removeprefix('Embedded')}")
        self._environment = child_environment(self._overrides(key))
        self._supervisor.run(self._spec("migrate", "migrate"))
        self._supervisor.start(self._spec("api", "api"))
        for pool in pools:
            self._supervisor.start(self._spec(f"{WORKER_PREFIX}{pool}", "worker", "--pool", pool))
        self._supervisor.start(self._spec("webhooks", "webhooks"))
        self._supervisor.start(self._spec("maintenance", "maintenance"))

    def leave_out(self, pool: str) -> None:
        """Starts the API anew without a pool that cannot run here, so that it says so of its models.

        Raises:
            StartFailed: its program cannot be run.
        """
        self._environment = {**self._environment, "MILLPOND_POOLS": f"{self._environment['MILLPOND_POOLS']},-{pool}"}
        self._supervisor.start(self._spec("api", "api"))

    def _spec(self, name: str, *arguments: str) -> Spec:
        return Spec(name, [sys.executable, "-m", "cli.main", *arguments], self._environment)

    def _overrides(self, key: str) -> dict[str, str]:
        overrides = {
            "MILLPOND_STATE_DIR": str(self._state.root),
            "MILLPOND_DATABASE_URL": self.database_url,
            "MILLPOND_BROKER_URL": _given(self._settings.broker_url) or self._valkey.url_of(0),
            "MILLPOND_REDIS_URL": _given(self._settings.redis_url) or self._valkey.url_of(1),
            "MILLPOND_BOOTSTRAP_KEY": key,
            "MILLPOND_POOLS": self._settings.pools,
            "MILLPOND_DRAIN_S": str(min(self._settings.drain_s, _WORKER_DRAIN_S)),
        }
        if self._settings.secret_keys is None:
            overrides["MILLPOND_SECRET_KEYS"] = self._state.secret(SEALING_KEY_FILE, make_sealing_key)
        if "webhook_allow_private" not in self._settings.model_fields_set:
            overrides["MILLPOND_WEBHOOK_ALLOW_PRIVATE"] = "true"  # whoever tries webhooks here receives them on this machine
        if "fetch_allow_private" not in self._settings.model_fields_set:
            overrides["MILLPOND_FETCH_ALLOW_PRIVATE"] = "true"  # and serves the inputs of jobs from it
        return overrides


def _given(url: SecretStr | None) -> str | None:
    return None if url is None else url.get_secret_value()
