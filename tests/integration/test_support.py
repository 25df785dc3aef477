"""The fixtures give what they promise, on both sets of servers."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from kombu import Connection
from redis import Redis

from models.migrate import pending
from tests.support.rigs import Rig
from tests.support.waiting import wait_until


def _tables(url: str) -> list[str]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [name for (name,) in cursor.fetchall()]


def test_database_fresh_has_the_newest_schema(database_url: str) -> None:
    assert "jobs" in _tables(database_url)
    assert pending(database_url) == []


def test_database_empty_has_no_table(empty_database_url: str) -> None:
    assert _tables(empty_database_url) == []


def test_database_is_empty_for_the_next_test_and_nobody_of_the_last_is_connected(rig: Rig) -> None:
    with rig.database() as url:
        left_open = psycopg2.connect(url)
        with left_open, left_open.cursor() as cursor:
            cursor.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'left')")
    with rig.database() as again, closing(psycopg2.connect(again)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants")
        assert cursor.fetchone() == (0,)
    with pytest.raises(psycopg2.OperationalError), left_open.cursor() as cursor:
        cursor.execute("SELECT 1")
    left_open.close()


@pytest.mark.parametrize(
    "change",
    ["DROP INDEX jobs_of_tenant", "ALTER TABLE jobs DISABLE TRIGGER jobs_final_is_final", "CREATE INDEX ON jobs (task)", "DELETE FROM alembic_version"],
)
def test_database_whose_schema_was_changed_is_dropped(rig: Rig, change: str) -> None:
    with rig.database() as url, closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(change)
        connection.commit()
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)


@pytest.mark.servers
def test_broker_real_is_rabbitmq_with_nothing_in_it(broker_url: str) -> None:
    assert urlsplit(broker_url).scheme == "amqp"
    with Connection(broker_url) as connection:
        connection.SimpleQueue("a queue").put({"id": 1})


def test_brokers_do_not_share(rig: Rig) -> None:
    with rig.broker() as one, rig.broker() as other, Connection(one) as here, Connection(other) as there:
        here.SimpleQueue("the_queue").put({"from": "here"})
        there.SimpleQueue("the_queue").put({"from": "there"})

        message = here.SimpleQueue("the_queue").get(timeout=5)
        message.ack()
        assert message.payload == {"from": "here"}


def test_redis_is_empty_before_and_after(rig: Rig) -> None:
    with rig.redis() as url, closing(Redis.from_url(url)) as client:
        client.set("a", 1)
    with closing(Redis.from_url(url)) as client:
        assert client.get("a") is None


def test_waiting_returns_what_became_true() -> None:
    seen = iter([0, 0, 7])

    assert wait_until(lambda: next(seen), every_s=0.001) == 7


def test_waiting_past_the_deadline_says_for_what() -> None:
    with pytest.raises(TimeoutError, match=r"the pond to fill: not true within 0\.01 s"):
        wait_until(lambda: False, 0.01, what="the pond to fill", every_s=0.001)


def _pytest(*arguments: str, tests: tuple[str, ...] = (__file__, "-k", "rabbitmq"), **environment: str) -> subprocess.CompletedProcess[str]:
    unreachable = {"MILLPOND_TEST_BROKER_URL": "amqp://guest:guest@127.0.0.1:9//"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *arguments]
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    return subprocess.run(command, env={**kept, **unreachable, **environment}, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "several"])
def test_servers_missing_leaves_their_tests_out_and_says_so_once(processes: tuple[str, ...]) -> None:
    result = _pytest(*processes)

    assert result.returncode == 0, result.stdout
    assert result.stdout.count("MILLPOND_TEST_BROKER_URL") == 1
    assert "1 tests need servers that do not answer" in result.stdout


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "several"])
def test_servers_missing_in_ci_fails(processes: tuple[str, ...]) -> None:
    result = _pytest(*processes, CI="true")

    assert result.returncode == 1, result.stdout
    assert "MILLPOND_TEST_BROKER_URL" in result.stdout + result.stderr


WITHOUT_CURL = {"PATH": str(Path(sys.executable).parent)}
README = (str(Path(__file__).parents[1] / "e2e" / "test_readme.py"),)


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "several"])
def test_curl_missing_leaves_the_examples_out_and_says_so_once(processes: tuple[str, ...]) -> None:
    result = _pytest(*processes, tests=README, **WITHOUT_CURL)

    assert result.returncode == 0, result.stdout
    assert result.stdout.count("curl is not on the PATH") == 1
    assert "1 passed" in result.stdout


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "several"])
def test_curl_missing_in_ci_fails(processes: tuple[str, ...]) -> None:
    result = _pytest(*processes, tests=README, CI="true", **WITHOUT_CURL)

    assert result.returncode == 1, result.stdout
    assert "curl is not on the PATH" in result.stdout + result.stderr
