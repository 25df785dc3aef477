"""Faults whose cure can be taken out: each is played by a test with everything in place, and by one that shows it can fail."""

from collections.abc import Sequence
from uuid import UUID

from broker.sender import Sender
from tests.chaos.gate import Gate
from tests.chaos.steps import STANDARD, accepted, echoes, ready_messages, seen_idle
from tests.support.jobs import run_sql
from tests.support.platform import Platform, echo_catalogue
from tests.support.waiting import wait_until


def api_killed_between_commit_and_publish(mill: Platform) -> list[UUID]:
    """The broker swallows what the API says; the API dies with jobs accepted and not published."""
    with Gate(mill.broker_url) as gate:
        gate.swallow()
        with mill.api(broker_url=gate.url) as api:
            ids = accepted(api, 5)
            assert [job.published_at for job in mill.jobs(ids)] == [None] * 5
            api.process.end()
    assert ready_messages(mill) == 0
    return ids


def worker_killed_while_it_runs(mill: Platform) -> list[UUID]:
    """SIGKILL of a worker's main process, with a batch and a lone job under way."""
    with mill.worker("doomed") as doomed:
        ids = mill.give(*echoes(5, delay_ms=60_000), timeout_s=120.0)
        mill.wait_running(ids)
        lone = mill.give({"payload": 1, "delay_ms": 60_000}, timeout_s=120.0)
        mill.wait_running(lone)
        children = doomed.children
        doomed.kill()
        wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 10.0, what="the children to die")
    _shorten(mill, [*ids, *lone])
    return [*ids, *lone]


def queue_purged(mill: Platform) -> list[UUID]:
    """Every message is gone, before anybody has read it."""
    ids = mill.give(*echoes(20))
    wait_until(lambda: ready_messages(mill) == 3, 5.0, what="the messages to arrive")
    with Sender(mill.broker_url) as sender:
        assert sender.ready_messages(STANDARD) > 0
        sender.purge(STANDARD)
    return ids


def zombie_wakes(mill: Platform, *, backend: str = "workers.backends.echo:Echo") -> list[UUID]:
    """A worker stands still for longer than its leases, and writes its results when another one runs the jobs already.

    Args:
        backend: of the worker that stands still.
    """
    catalogue = mill.write_catalogue(echo_catalogue(backend=backend))
    with Gate(mill.broker_url) as gate, mill.worker("zombie", catalogue=catalogue, broker_url=gate.url) as zombie:
        ids = mill.give(*echoes(2, delay_ms=3_000))
        mill.wait_running(ids)
        zombie.freeze()
        gate.shut()  # or the broker would go on giving it messages, until a heartbeat is missed
        with mill.worker("heir"):
            wait_until(lambda: all(job.status == "running" and job.attempt == 2 for job in mill.jobs(ids)), 40.0, what="the heir to run all jobs")
            zombie.thaw()
            gate.open()
            seen_idle(mill, "zombie")
            mill.wait_final(ids)
    return ids


def _shorten(mill: Platform, ids: Sequence[UUID]) -> None:
    """What took a minute, so that it would be caught in the middle, shall take no time when it runs again."""
    run_sql(mill.engine, "UPDATE job_inputs SET input = json_build_object('payload', input->'payload') WHERE job_id = ANY (:ids)", ids=list(ids))
