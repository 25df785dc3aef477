"""The broker is away, hangs, restarts, or throws its connections out."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from broker.topology import EXCHANGE
from tests.chaos.gate import Gate
from tests.chaos.own_servers import OwnRabbitmq
from tests.chaos.scenarios import api_killed_between_commit_and_publish
from tests.chaos.steps import accepted, accepted_for, echoes
from tests.support.brokers import rabbitmqctl
from tests.support.platform import Platform, check_invariants
from tests.support.rigs import Rig

pytestmark = pytest.mark.chaos
SLOW = pytest.mark.slow


def test_api_killed_between_commit_and_publish_its_jobs_are_relayed(bare: Platform) -> None:
    ids = api_killed_between_commit_and_publish(bare)

    with bare.maintenance(), bare.worker():
        bare.wait_final(ids)
    assert {(job.status, job.attempt) for job in bare.jobs(ids)} == {("succeeded", 1)}
    check_invariants(bare.engine, ids)


@pytest.mark.parametrize("away_s", [5, pytest.param(60, marks=SLOW)])
@pytest.mark.parametrize("how", [Gate.shut, Gate.swallow], ids=["refuses", "hangs"])
def test_broker_away_while_the_api_takes_jobs(bare: Platform, how: Callable[[Gate], None], away_s: float) -> None:
    with Gate(bare.broker_url) as gate:
        bare.environment["MILLPOND_BROKER_URL"] = gate.url
        with bare.maintenance(), bare.worker(), bare.api() as api:
            ids = accepted(api, 10)
            how(gate)
            meanwhile = accepted_for(api, away_s)
            assert len(meanwhile) > away_s, "no submit waited for the broker"
            gate.open()
            gate.cut()
            ids += meanwhile + accepted(api, 10)
            bare.wait_final(ids, within_s=90.0)
    assert {job.status for job in bare.jobs(ids)} == {"succeeded"}
    check_invariants(bare.engine, ids)


def test_connections_broken_twice_in_the_middle_of_a_batch(bare: Platform) -> None:
    with Gate(bare.broker_url) as gate, bare.maintenance(), bare.worker(broker_url=gate.url) as worker:
        ids = bare.give(*echoes(300, delay_ms=2_000))
        bare.wait_running(ids, 100)
        for times in (1, 2):
            gate.cut()
            wait_connected_again(bare, worker.name, times)
        bare.wait_final(ids, within_s=60.0)
    assert {(job.status, job.failures, job.crashes) for job in bare.jobs(ids)} == {("succeeded", 0, 0)}
    check_invariants(bare.engine, ids)


def wait_connected_again(mill: Platform, worker: str, times: int) -> None:
    """Waits until a worker has work that it took after its connection broke for the nth time."""
    first = mill.give({"payload": times}, priority="interactive")
    mill.wait_final(first, within_s=60.0)


@pytest.mark.servers
def test_connections_closed_by_rabbitmq_twice_in_the_middle_of_a_batch(bare: Platform) -> None:
    vhost = urlsplit(bare.broker_url).path.removeprefix("/")
    with bare.maintenance(), bare.worker() as worker:
        ids = bare.give(*echoes(300, delay_ms=2_000))
        bare.wait_running(ids, 100)
        for times in (1, 2):
            rabbitmqctl("close_all_connections", "-p", vhost, "a fault test")
            wait_connected_again(bare, worker.name, times)
        bare.wait_final(ids, within_s=60.0)
    assert {(job.status, job.failures, job.crashes) for job in bare.jobs(ids)} == {("succeeded", 0, 0)}
    check_invariants(bare.engine, ids)


@pytest.mark.servers
@pytest.mark.parametrize("stopped_s", [1, pytest.param(60, marks=SLOW)])
def test_rabbitmq_stopped_and_then_killed_while_the_api_takes_jobs(rig: Rig, tmp_path: Path, stopped_s: float) -> None:
    with rig.database() as database_url, OwnRabbitmq(tmp_path / "rabbit") as rabbitmq, Platform(tmp_path, database_url, rabbitmq.url) as mill:
        with mill.maintenance(), mill.worker(), mill.api() as api:
            ids = accepted_for(api, 1.0)
            rabbitmq.stop_broker()
            meanwhile = accepted_for(api, stopped_s)
            assert len(meanwhile) > stopped_s, "no submit waited for the broker"
            rabbitmq.start_broker()
            ids += meanwhile + accepted_for(api, 1.0)
            rabbitmq.crash()
            ids += accepted_for(api, 1.0)
            rabbitmq.start()
            ids += accepted_for(api, 1.0)
            mill.wait_final(ids, within_s=90.0)
        assert {job.status for job in mill.jobs(ids)} == {"succeeded"}
        check_invariants(mill.engine, ids)


@pytest.mark.servers
def test_message_of_another_celery_task_is_passed_over(bare: Platform) -> None:
    with Connection(bare.broker_url) as connection, bare.maintenance(), bare.worker() as worker:
        body: tuple[list[object], dict[str, object], dict[str, None]] = ([], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None})
        headers = {"task": "somebody.else", "id": "1", "lang": "py", "argsrepr": "", "kwargsrepr": ""}
        connection.Producer().publish(body, exchange=EXCHANGE, routing_key="debug.standard", serializer="json", headers=headers, correlation_id="1")
        ids = bare.give(*echoes(20))
        bare.wait_final(ids)
        assert worker.exit_code is None
    check_invariants(bare.engine, ids)


@SLOW
@pytest.mark.servers
def test_quorum_queues_carry_jobs_through_the_death_of_a_worker(bare: Platform) -> None:
    bare.environment["MILLPOND_QUEUE_TYPE"] = "quorum"
    with bare.maintenance(), bare.api() as api, bare.worker("first") as first:
        ids = accepted(api, 30) + accepted(api, 10, delay_ms=3_000)
        bare.wait_running(ids[30:], 1)
        first.end()
        with bare.worker("second"):
            ids += accepted(api, 30)
            bare.wait_final(ids, within_s=60.0)
    assert {job.status for job in bare.jobs(ids)} == {"succeeded"}
    check_invariants(bare.engine, ids)


@SLOW
@pytest.mark.servers
def test_worker_that_passes_the_consumer_timeout_goes_on(rig: Rig, tmp_path: Path) -> None:
    with rig.database() as database_url, OwnRabbitmq(tmp_path / "rabbit") as rabbitmq, Platform(tmp_path, database_url, rabbitmq.url) as mill:
        rabbitmq.evaluate("application:set_env(rabbit, consumer_timeout, 2000), application:set_env(rabbit, channel_tick_interval, 500).")
        with mill.maintenance(), mill.worker() as worker:
            ids = mill.give(*echoes(2, delay_ms=8_000))
            mill.wait_final(ids, within_s=60.0)
            ids += mill.give(*echoes(20))
            mill.wait_final(ids, within_s=60.0)
            assert worker.exit_code is None
            assert worker.said("PRECONDITION_FAILED") or worker.said("delivery acknowledgement"), worker.last_words(60)
        check_invariants(mill.engine, ids)
