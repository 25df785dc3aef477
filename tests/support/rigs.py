"""The two sets of servers that tests run on: embedded ones, and real ones that the environment names."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import psycopg2
import pytest
from kombu import Connection
from redis import Redis

from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.state import StateFolder
from cli.embedded.valkey import EmbeddedValkey
from tests.support.brokers import NumberedDatabases, Vhosts, rabbitmqctl
from tests.support.databases import Databases


def rig_of(node: pytest.Item | pytest.Collector) -> str:
    """The name of the servers that a test, or a file's tests, run on: what ``--on`` says, unless they are marked."""
    on = str(node.config.option.on)
    if node.get_closest_marker("servers"):
        return "real"
    if on == "mixed":
        return "real" if node.get_closest_marker("chaos") and _real_ones_answer() else "embedded"
    return on


@cache
def _real_ones_answer() -> bool:
    return not RealRig().missing


class Rig(Protocol):
    """A set of servers. Each call gives something that nobody else uses, and takes it away at the end."""

    name: str

    def database(self, *, migrated: bool = True) -> AbstractContextManager[str]:
        """The URL of a fresh database, with the newest schema unless told otherwise."""

    def broker(self) -> AbstractContextManager[str]:
        """The URL of an empty broker."""

    def redis(self) -> AbstractContextManager[str]:
        """The URL of an empty Redis or Valkey database."""


class RealRig:
    """PostgreSQL 15, RabbitMQ and Redis, which run already."""

    name = "real"

    def __init__(self) -> None:
        self.postgres_url = os.environ.get("MILLPOND_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
        self.rabbitmq_url = os.environ.get("MILLPOND_TEST_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
        self.redis_url = os.environ.get("MILLPOND_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
        self._databases = Databases(self.postgres_url)
        self._vhosts = Vhosts(self.rabbitmq_url)
        self._numbered = NumberedDatabases(self.redis_url)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What does not answer, by its variable, and why; empty when all is there."""
        found = []
        for variable, look in (
            ("MILLPOND_TEST_DATABASE_URL", self._look_at_postgres),
            ("MILLPOND_TEST_BROKER_URL", self._look_at_rabbitmq),
            ("MILLPOND_TEST_REDIS_URL", self._look_at_redis),
        ):
            try:
                look()
            except Exception as error:  # noqa: BLE001 - whatever is wrong, the server is not there for us
                found.append(f"{variable}: {' '.join(str(error).split()) or type(error).__name__}")
        return tuple(found)

    def database(self, *, migrated: bool = True) -> AbstractContextManager[str]:
        """A database of its own."""
        return self._databases.fresh(migrated=migrated)

    def broker(self) -> AbstractContextManager[str]:
        """A virtual host of its own."""
        return self._vhosts.fresh()

    def redis(self) -> AbstractContextManager[str]:
        """A numbered database of its own."""
        return self._numbered.fresh()

    @contextmanager
    def running(self) -> Iterator["RealRig"]:
        """Cleans up before and after; the servers themselves stay as they are."""
        self._databases.drop_leftovers()
        with ExitStack() as stack:
            stack.callback(self._databases.drop_leftovers)
            stack.callback(self._vhosts.delete_all)
            yield self

    def _look_at_postgres(self) -> None:
        with closing(psycopg2.connect(self.postgres_url, connect_timeout=3)):
            pass

    def _look_at_rabbitmq(self) -> None:
        with Connection(self.rabbitmq_url, connect_timeout=3) as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
        rabbitmqctl("ping")  # virtual hosts are made with it

    def _look_at_redis(self) -> None:
        with closing(Redis.from_url(self.redis_url, socket_connect_timeout=3)) as client:
            client.ping()


class EmbeddedRig:
    """PostgreSQL and Valkey as ``make run`` starts them, in a folder of their own; each is started when it is first asked for."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        self._state = StateFolder(folder)
        self._stack = ExitStack()

    def database(self, *, migrated: bool = True) -> AbstractContextManager[str]:
        """A database of its own."""
        return self._databases.fresh(migrated=migrated)

    def broker(self) -> AbstractContextManager[str]:
        """A numbered database of its own, as a broker."""
        return self._numbered.fresh()

    def redis(self) -> AbstractContextManager[str]:
        """A numbered database of its own."""
        return self._numbered.fresh()

    @contextmanager
    def running(self) -> Iterator["EmbeddedRig"]:
        """Stops at the end what was started meanwhile."""
        with self._stack:
            yield self

    @cached_property
    def _databases(self) -> Databases:
        url = self._stack.enter_context(EmbeddedPostgres(self._state)).url
        return Databases(url.replace("postgresql+psycopg2:", "postgresql:"))  # as psycopg2 takes it too

    @cached_property
    def _numbered(self) -> NumberedDatabases:
        return NumberedDatabases(self._stack.enter_context(EmbeddedValkey(self._state)).url)
