"""The real PostgreSQL and Valkey of the wheels, started once for all tests here."""

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import psycopg2
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from sqlalchemy.engine import make_url

from cli.embedded import postgres as postgres_module
from cli.embedded import valkey as valkey_module
from cli.embedded.child import StartFailed
from cli.embedded.postgres import EmbeddedPostgres
from cli.embedded.server import EmbeddedServer
from cli.embedded.state import StateFolder
from cli.embedded.valkey import EmbeddedValkey
from domain.errors import ConfigurationError


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    # Spaces, quotes, and longer than the 107 bytes that the path of a socket may have; pytest's folders are closed to other users.
    return StateFolder(tmp_path_factory.mktemp("servers") / 'a "quoted" folder, it\'s long' / ("x" * 100) / "state")


@pytest.fixture(scope="module")
def postgres(state: StateFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    state.create()
    unfinished = state.root / "postgres" / "data.new"  # as a first start leaves it that was killed in initdb
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    # The programs too lie where only their owner may go, as in a virtual environment under /root.
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    package = postgres_module.find_binaries().parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name)
    copied = SimpleNamespace(origin=str(closed / package.name / "__init__.py"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_module, "find_spec", lambda _: copied)
        with EmbeddedPostgres(state) as server:
            yield server


@pytest.fixture(scope="module")
def valkey(state: StateFolder) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(state) as server:
        yield server


def _connect(server: EmbeddedPostgres, **changes: object) -> psycopg2.extensions.connection:
    url = make_url(server.url)
    options: dict[str, Any] = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    connection: psycopg2.extensions.connection = psycopg2.connect(**(options | changes), connect_timeout=3)
    return connection


def _run(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    with closing(_connect(server)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def _port(server: EmbeddedServer) -> int:
    port = make_url(server.url).port
    assert port is not None
    return port


def _listening_at(port: int) -> set[str]:
    addresses = [connection.laddr for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN]
    return {address[0] for address in addresses if address and address[1] == port}


def test_postgres_has_the_database_and_is_durable(postgres: EmbeddedPostgres) -> None:
    assert postgres.url.startswith("postgresql+psycopg2://millpond:")
    assert _run(postgres, "SELECT current_database(), current_setting('fsync'), current_setting('server_encoding')") == [("millpond", "on", "UTF8")]
    assert _run(postgres, "SELECT current_setting('max_connections')::int >= 200, current_setting('TimeZone')") == [(True, "UTC")]


def test_postgres_role_may_make_databases_and_is_no_superuser(postgres: EmbeddedPostgres) -> None:
    assert _run(postgres, "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user") == [(False, True)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        _run(postgres, "COPY (SELECT 1) TO '/tmp/from-sql'")


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"password": ""}, {"user": "postgres"}])
def test_postgres_without_the_password_refuses(postgres: EmbeddedPostgres, changes: dict[str, str]) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        _connect(postgres, **changes).close()


def test_servers_listen_on_this_machine_alone(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    assert _listening_at(_port(postgres)) == {"127.0.0.1"}
    assert _listening_at(_port(valkey)) == {"127.0.0.1"}


def test_servers_keep_passwords_to_this_user(postgres: EmbeddedPostgres, valkey: EmbeddedValkey, state: StateFolder) -> None:
    for file in ("postgres.password", "valkey.password", "valkey/valkey.conf"):
        assert stat.S_IMODE((state.root / file).stat().st_mode) == 0o600
    commands = " ".join(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    for server in (postgres, valkey):
        assert str(make_url(server.url).password) not in commands


def test_postgres_opens_no_parent_folder_and_does_not_run_as_root(postgres: EmbeddedPostgres, state: StateFolder) -> None:
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((state.root / "postgres/data").stat().st_mode) == 0o700
    assert state.root.stat().st_uid == os.geteuid()
    assert 0 not in _users_of_the_server(state)


def test_postgres_stopped_and_started_keeps_port_password_and_data(postgres: EmbeddedPostgres) -> None:
    _run(postgres, "CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS n")
    url = postgres.url

    postgres.stop()
    assert not postgres.ready()
    postgres.start()

    assert postgres.url == url
    assert _run(postgres, "SELECT n FROM kept") == [(1,)]


def test_postgres_killed_recovers_what_was_committed(postgres: EmbeddedPostgres, state: StateFolder) -> None:
    _run(postgres, "CREATE TABLE IF NOT EXISTS recovered (n int)")
    _run(postgres, "INSERT INTO recovered VALUES (1)")

    postgres.kill()
    assert (state.root / "postgres/data/postmaster.pid").exists()
    postgres.start()

    assert _run(postgres, "SELECT n FROM recovered") == [(1,)]


def test_postgres_port_taken_meanwhile_moves(postgres: EmbeddedPostgres) -> None:
    before = _port(postgres)
    postgres.stop()

    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody.bind(("127.0.0.1", before))
        somebody.listen()
        postgres.start()

    assert _port(postgres) != before
    assert _run(postgres, "SELECT 1") == [(1,)]


def test_postgres_password_file_lost_gets_a_new_one(postgres: EmbeddedPostgres, state: StateFolder) -> None:
    before = make_url(postgres.url).password
    postgres.stop()
    (state.root / "postgres.password").unlink()

    postgres.start()

    assert make_url(postgres.url).password != before
    assert _run(postgres, "SELECT 1") == [(1,)]


def test_postgres_data_of_another_version_is_a_clear_message(postgres: EmbeddedPostgres, state: StateFolder) -> None:
    postgres.stop()
    version = state.root / "postgres/data/PG_VERSION"
    kept = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 12.*MILLPOND_STATE_DIR"):
            postgres.start()
    finally:
        version.write_text(kept)
        postgres.start()


def test_postgres_that_cannot_start_says_why(postgres: EmbeddedPostgres, state: StateFolder) -> None:
    postgres.stop()
    control = state.root / "postgres/data/global/pg_control"
    moved = control.rename(control.with_suffix(".away"))
    try:
        with pytest.raises(StartFailed, match=r"(?s)postgres ended with exit code.*pg_control.*postgres\.log"):
            postgres.start()
    finally:
        moved.rename(control)
        postgres.start()


def test_valkey_asks_for_the_password(valkey: EmbeddedValkey) -> None:
    with Redis(port=_port(valkey)) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    with Redis.from_url(valkey.url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_killed_keeps_what_was_written_a_while_ago(valkey: EmbeddedValkey, state: StateFolder) -> None:
    with Redis.from_url(valkey.url) as client:
        client.rpush("queue", "message")
        assert client.waitaof(1, 0, 5_000)[0] == 1  # until it is on disk

    valkey.kill()
    valkey.start()

    with Redis.from_url(valkey.url) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]
    with Redis.from_url(valkey.url_of(1)) as other:
        assert other.keys() == []


def test_binaries_of_the_path_serve_when_the_wheels_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("postgres", "initdb", "redis-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    linked = tmp_path / "bin"
    linked.mkdir()
    (linked / "postgres").symlink_to(tmp_path / "postgres")  # as Debian does: initdb lies beside the real file alone
    shutil.copy(tmp_path / "redis-server", linked)
    monkeypatch.setattr(postgres_module, "find_spec", lambda _: None)
    monkeypatch.setattr(valkey_module, "find_spec", lambda _: None)

    monkeypatch.setenv("PATH", str(linked))
    assert postgres_module.find_binaries() == tmp_path.resolve()
    assert valkey_module.find_binary() == linked / "redis-server"

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ConfigurationError, match="MILLPOND_DATABASE_URL"):
        postgres_module.find_binaries()
    with pytest.raises(ConfigurationError, match="MILLPOND_BROKER_URL and MILLPOND_REDIS_URL"):
        valkey_module.find_binary()


def _users_of_the_server(state: StateFolder) -> set[int]:
    data = str(state.root / "postgres" / "data")
    users = {process.uids().real for process in psutil.process_iter(["cmdline"]) if data in (process.info["cmdline"] or ())}
    assert users
    return users
