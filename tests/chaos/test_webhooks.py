"""Senders of webhooks are killed, cut off and stopped under delivery: every event arrives, under one id, and nothing is lost."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.ids import Prefix, decode
from models.migrate import upgrade
from models.transactions import DatabaseAway
from tests.chaos.gate import Gate
from tests.chaos.own_servers import OwnPostgres, OwnRabbitmq
from tests.support.deliveries import end_jobs, endpoint
from tests.support.jobs import run_sql
from tests.support.platform import Platform, Running
from tests.support.receivers import Received, Receiver, answering, hanging
from tests.support.rigs import Rig
from tests.support.senders import SEALING_KEY, give_secret
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos

LEASE_S = 3


@contextmanager
def sender(mill: Platform, name: str = "webhooks", **settings: object) -> Iterator[Running]:
    """A process that sends webhooks, once it consumes."""
    wanted = {"secret_keys": SEALING_KEY, "webhook_allow_private": "true", "webhook_lease_s": LEASE_S, "webhook_threads": 8, **settings}
    started = mill.start("webhooks", "--name", name, name=name, settings=wanted)
    try:
        wait_until(lambda: started.said("webhooks ready") or started.exit_code is not None, 20.0, what="the sender to be ready")
        assert started.exit_code is None, started.last_words()
        yield started
    finally:
        started.end()


def told(mill: Platform, receiver: Receiver, *, standing: str = "good") -> UUID:
    """An endpoint with a secret."""
    one = endpoint(mill.engine, url=receiver.url, standing=standing)
    give_secret(mill.engine, one)
    return one


def events(mill: Platform) -> set[UUID]:
    return {row.id for row in run_sql(mill.engine, "SELECT id FROM events")}


def states(mill: Platform) -> dict[str, int]:
    """How many deliveries are in each state; nothing while the database is away."""
    with contextlib.suppress(DatabaseAway):
        return {row.state: row.n for row in run_sql(mill.engine, "SELECT state, count(*) AS n FROM webhook_deliveries GROUP BY 1")}
    return {}


def wait_delivered(mill: Platform, count: int, within_s: float = 40.0) -> None:
    """Waits until so many deliveries have succeeded, and no other is there."""
    try:
        wait_until(lambda: states(mill) == {"delivered": count}, within_s, every_s=0.05)
    except TimeoutError as error:
        logs = "\n".join(f"--- {process.name}\n{process.last_words()}" for process in mill.running)
        raise TimeoutError(f"not delivered after {within_s} s: {states(mill)}\n{logs}") from error


def ids(receiver: Receiver) -> list[UUID | None]:
    return [decode(Prefix.EVENT, got.id) for got in receiver.got]


def test_event_is_on_its_way_at_once_and_arrives_within_a_second(bare: Platform) -> None:
    with Receiver() as receiver, bare.maintenance(), sender(bare):
        told(bare, receiver, standing="new")
        end_jobs(bare.engine, 1)
        wait_until(lambda: receiver.got, 3.0, what="the event to arrive")
        wait_delivered(bare, 1)
    (late,) = run_sql(bare.engine, "SELECT extract(epoch FROM last_try_at - created_at) AS s FROM webhook_deliveries")
    assert late.s < 1.0


def test_sender_killed_after_the_post_and_before_its_record_sends_again_under_the_same_id(bare: Platform) -> None:
    with Receiver() as receiver, bare.maintenance():
        told(bare, receiver)
        with sender(bare, "killed") as killed:

            def kill(_connection: socket.socket, _received: Received) -> bool:
                receiver.manner = answering()
                killed.kill()
                return False

            receiver.manner = kill
            end_jobs(bare.engine, 1)
            killed.wait_gone()
        assert states(bare) == {"sending": 1}
        with sender(bare, "next"):
            wait_delivered(bare, 1)
    first, second = receiver.got
    assert (first.id, first.body) == (second.id, second.body)
    errors = [row.error for row in run_sql(bare.engine, "SELECT error FROM webhook_tries ORDER BY try")]
    assert errors == ["sender_lost", None]


def test_sender_killed_again_and_again_under_load_loses_nothing(bare: Platform) -> None:
    with Receiver() as receiver, bare.maintenance():
        told(bare, receiver)
        end_jobs(bare.engine, 300)
        for number in range(3):
            with sender(bare, f"killed-{number}") as killed:
                already = len(receiver.got)
                wait_until(lambda already=already: len(receiver.got) > already, 20.0, what="something to be sent")  # type: ignore[misc]
                killed.kill()
            end_jobs(bare.engine, 50)
        with sender(bare, "last"):
            wait_delivered(bare, 450)
    assert set(ids(receiver)) == events(bare)


def test_sender_that_is_stopped_ends_what_it_sends_and_gives_the_rest_back(bare: Platform) -> None:
    stopping: list[Running] = []

    def stop(connection: socket.socket, received: Received) -> bool:
        receiver.manner = answering()
        stopping[0].send(15)
        wait_until(lambda: stopping[0].said("Warm shutdown") or True, 1.0)
        return answering()(connection, received)

    with Receiver(stop) as receiver, bare.maintenance():
        told(bare, receiver)
        with sender(bare, "stopped", webhook_lease_s=600) as stopped:
            stopping.append(stopped)
            end_jobs(bare.engine, 100)
            assert stopped.wait_gone() == 0
            seen = states(bare)
        assert "sending" not in seen, "what was claimed and not sent is given back"
        assert seen.get("delivered", 0) == len(receiver.got)
        with sender(bare, "next"):
            wait_delivered(bare, 100)
    assert sorted(map(str, ids(receiver))) == sorted(map(str, events(bare))), "each event once"


def test_broker_connections_cut_under_delivery_nothing_is_lost(bare: Platform) -> None:
    with Receiver() as receiver, Gate(bare.broker_url) as gate:
        bare.environment["MILLPOND_BROKER_URL"] = gate.url
        with bare.maintenance(), sender(bare):
            told(bare, receiver)
            for _ in range(3):
                end_jobs(bare.engine, 100)
                gate.cut()
            wait_delivered(bare, 300)
    assert set(ids(receiver)) == events(bare)


def test_database_connections_ended_under_delivery_nothing_is_lost(bare: Platform) -> None:
    end = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'millpond %' AND application_name <> 'millpond test'
    """
    with Receiver() as receiver, bare.maintenance(), sender(bare):
        told(bare, receiver)
        for number in range(3):
            end_jobs(bare.engine, 100)
            wait_until(lambda number=number: len(receiver.got) > number * 30, 20.0, what="something to be sent")  # type: ignore[misc]
            with contextlib.suppress(DatabaseAway):
                run_sql(bare.engine, end)
        wait_delivered(bare, 300)
    assert set(ids(receiver)) == events(bare)


def test_dead_receivers_do_not_slow_a_live_one(bare: Platform) -> None:
    with Receiver(hanging) as dead, Receiver() as live, bare.maintenance(), sender(bare, webhook_threads=2):
        for standing in ("new", "failing"):
            for _ in range(20):
                told(bare, dead, standing=standing)
        one = told(bare, live)
        end_jobs(bare.engine, 1)
        wait_until(lambda: dead.got and live.got, 10.0, what="both to be sent to")
        end_jobs(bare.engine, 5)
        query = "SELECT extract(epoch FROM last_try_at - created_at) AS s FROM webhook_deliveries WHERE endpoint_id = :id AND state = 'delivered'"
        wait_until(lambda: len(run_sql(bare.engine, query, id=one)) == 6, 5.0, what="the live one to be served")
        rows = run_sql(bare.engine, query, id=one)
        assert states(bare)["pending"] > 200, "the dead ones wait"
    assert max(float(row.s) for row in rows) < 2.0


def test_hints_that_are_lost_are_made_again(bare: Platform) -> None:
    with Receiver() as receiver, bare.maintenance() as maintenance:
        one = told(bare, receiver)
        end_jobs(bare.engine, 1)

        def hinted() -> Any:
            return run_sql(bare.engine, "SELECT 1 FROM webhook_endpoints WHERE hinted_at IS NOT NULL AND id = :id", id=one)

        wait_until(hinted, what="the hint to be sent")
        maintenance.end()
        run_sql(bare.engine, "UPDATE webhook_endpoints SET hinted_at = now() - interval '11 s'")  # as if ten seconds had passed, and nothing come of it
        with bare.maintenance("maintenance-2"), sender(bare):
            wait_delivered(bare, 1)


def test_postgres_crashed_under_delivery_nothing_is_lost(rig: Rig, tmp_path: Path) -> None:
    with OwnPostgres(tmp_path / "postgres", embedded=rig.name == "embedded") as postgres, rig.broker() as broker_url:
        upgrade(postgres.url)
        with Platform(tmp_path, postgres.url, broker_url) as mill, Receiver() as receiver, mill.maintenance(), sender(mill):
            told(mill, receiver)
            for number in range(2):
                end_jobs(mill.engine, 150)
                wait_until(lambda number=number: len(receiver.got) > number * 100, 30.0, what="something to be sent")  # type: ignore[misc]
                postgres.crash()
                postgres.start()
                wait_until(lambda: states(mill), 20.0, what="the database to answer here")
            wait_delivered(mill, 300, within_s=60.0)
            assert set(ids(receiver)) == events(mill)


@pytest.mark.servers
def test_rabbitmq_restarted_under_delivery_nothing_is_lost(rig: Rig, tmp_path: Path) -> None:
    with (
        rig.database() as database_url,
        OwnRabbitmq(tmp_path / "rabbit") as rabbitmq,
        Platform(tmp_path, database_url, rabbitmq.url) as mill,
        Receiver() as receiver,
        mill.maintenance(),
        sender(mill),
    ):
        told(mill, receiver)
        end_jobs(mill.engine, 150)
        wait_until(lambda: receiver.got, 20.0, what="something to be sent")
        rabbitmq.crash()
        end_jobs(mill.engine, 150)
        rabbitmq.start()
        wait_delivered(mill, 300, within_s=90.0)
        assert set(ids(receiver)) == events(mill)
