import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine

from broker.inspection import inspect_broker
from broker.sender import BrokerAway, Sender
from domain.catalogue import QueueName
from domain.job import Outcome, Priority
from domain.messages import JobsMessage
from models.identity import new_id
from models.queries.queues import beat
from models.transactions import DatabaseAway, statement
from tests.support.brokers import rabbitmqctl
from tests.support.jobs import assert_promises, claim, give_back, lapse_lease, look, run_sql, submit_many, succeed
from tests.support.waiting import wait_until
from workers.maintenance.process import MaintenanceProcess
from workers.maintenance.pruner import Pruned, Pruner
from workers.maintenance.reaper import Reaped, Reaper
from workers.maintenance.relay import PROBE_JOBS, Relay, Relayed
from workers.maintenance.release import release_worker
from workers.maintenance.sweep import Sweep, Swept

STANDARD = QueueName("debug", Priority.STANDARD)


@dataclass
class FakeSender(Sender):
    """Remembers what it was given; fails when told to."""

    sent: list[tuple[QueueName, JobsMessage]] = field(default_factory=list)
    fails_after: int | None = None
    ready: int = 0
    on_send: object = None

    def send(self, queue: QueueName, message: JobsMessage) -> None:
        if self.fails_after is not None and len(self.sent) >= self.fails_after:
            raise BrokerAway("away")
        self.sent.append((queue, message))

    def ready_messages(self, queue: QueueName) -> int:
        if self.fails_after == 0:
            raise BrokerAway("away")
        return self.ready

    def close(self) -> None:
        pass


def relay_of(engine: Engine, sender: Sender) -> Relay:
    return Relay(engine, sender, ids_per_message={"echo": 8}, every_s=0.05, fresh_s=0.0)


# --- relay


def test_relay_due_jobs_are_published_in_packs(engine: Engine) -> None:
    sender = FakeSender()
    ids = [*submit_many(engine, 20), *submit_many(engine, 1, priority="flex")]
    assert relay_of(engine, sender).run_once() == Relayed(jobs=21, messages=4)
    assert [(str(queue), len(message.ids)) for queue, message in sender.sent] == [
        ("debug.standard", 8),
        ("debug.standard", 8),
        ("debug.standard", 4),
        ("debug.flex", 1),
    ]
    assert [job_id for _, message in sender.sent for job_id in message.ids] == ids
    assert relay_of(engine, sender).run_once() == Relayed()


def test_relay_solo_job_goes_alone(engine: Engine) -> None:
    sender = FakeSender()
    ids = submit_many(engine, 2)
    give_back(engine, claim(engine, *ids), solo=True)
    relay_of(engine, sender).run_once()
    assert [(message.ids, message.solo) for _, message in sender.sent] == [((ids[0],), True), ((ids[1],), True)]


def test_relay_broker_fails_midway_gives_back_the_rest_and_probes_with_few(engine: Engine) -> None:
    sender = FakeSender(fails_after=1)
    ids = submit_many(engine, 40)
    relay = relay_of(engine, sender)
    for _ in range(3):
        with pytest.raises(BrokerAway):
            relay.run_once()
    published = [job_id for job_id in ids if look(engine, job_id).row.published_at]
    assert published == ids[:8]
    sender.fails_after = None
    assert relay.run_once() == Relayed(jobs=PROBE_JOBS, messages=1, more=True)
    assert relay.run_once() == Relayed(jobs=24, messages=3)
    assert sorted(job_id for _, message in sender.sent for job_id in message.ids) == ids
    assert {look(engine, job_id).row.publications for job_id in ids} == {1}


def test_relay_job_that_moved_on_during_the_publish_is_not_unmarked(engine: Engine) -> None:
    (job_id,) = submit_many(engine, 1)

    class MovesOn(FakeSender):
        def send(self, queue: QueueName, message: JobsMessage) -> None:
            give_back(engine, claim(engine, job_id))
            with statement(engine) as connection:
                connection.execute(MARKED, {"id": job_id})
            raise BrokerAway("the confirm was lost; the message was not")

    from sqlalchemy import text  # noqa: PLC0415

    MARKED = text("UPDATE jobs SET published_at = now() WHERE id = :id")  # noqa: N806 - somebody else has published the new fence
    with pytest.raises(BrokerAway):
        relay_of(engine, MovesOn()).run_once()
    assert look(engine, job_id).row.published_at is not None


def test_relay_told_to_stop_gives_back_what_it_has_not_sent(engine: Engine) -> None:
    ids = submit_many(engine, 20)

    class StopsRelay(FakeSender):
        def send(self, queue: QueueName, message: JobsMessage) -> None:
            super().send(queue, message)
            relay.stop()

    relay = relay_of(engine, StopsRelay())
    assert relay.run_once().jobs == 8
    assert [look(engine, job_id).row.published_at is not None for job_id in ids] == [True] * 8 + [False] * 12


def test_relay_on_a_real_broker_brings_every_job_of_a_crashed_api(engine: Engine, broker_url: str) -> None:
    submit_many(engine, 20)
    with Sender(broker_url) as sender:
        assert relay_of(engine, sender).run_once() == Relayed(jobs=20, messages=3)
        assert sender.ready_messages(STANDARD) == 3


def test_sender_many_messages_are_in_the_queue_once_it_returns(broker_url: str) -> None:
    messages = [(STANDARD, JobsMessage(model="echo", ids=(new_id(),))) for _ in range(200)]
    with Sender(broker_url) as sender, Sender(broker_url) as onlooker:
        for round_ in (1, 2):
            sender.send_all(messages)
            assert onlooker.ready_messages(STANDARD) == round_ * len(messages)
        sender.purge(STANDARD)


@pytest.mark.servers
def test_sender_message_that_the_broker_refuses_is_not_sent_and_holds_up_no_later_one(broker_url: str) -> None:
    policy = ("-p", urlsplit(broker_url).path.removeprefix("/"), "full")
    message = JobsMessage(model="echo", ids=(new_id(),))
    with Sender(broker_url) as sender:
        rabbitmqctl("set_policy", *policy, ".*", '{"max-length": 1, "overflow": "reject-publish"}', "--apply-to", "queues")
        with pytest.raises(BrokerAway, match="refused"):
            sender.send_all([(STANDARD, message)] * 5)
        rabbitmqctl("clear_policy", *policy)
        before = sender.ready_messages(STANDARD)
        sender.send(STANDARD, message)
        assert sender.ready_messages(STANDARD) == before + 1


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0"])
def test_relay_broker_that_refuses_connections_is_away(engine: Engine, url: str) -> None:
    (job_id,) = submit_many(engine, 1)
    with pytest.raises(BrokerAway):
        relay_of(engine, Sender(url)).run_once()
    assert look(engine, job_id).row.published_at is None
    with pytest.raises(BrokerAway):
        Sender(url).ready_messages(STANDARD)
    with pytest.raises(BrokerAway):
        inspect_broker(url)


# --- sweep


def sweep_of(engine: Engine, sender: Sender, clock: Sequence[float]) -> Sweep:
    times = iter(clock)
    return Sweep(engine, sender, queues=[STANDARD], every_s=5.0, clock=lambda: next(times))


def publish_long_ago(engine: Engine) -> None:
    run_sql(engine, "UPDATE jobs SET available_at = now() - interval '1 hour', published_at = now() - interval '1 hour', publications = 1")


def test_sweep_queue_empty_in_two_looks_five_seconds_apart_brings_jobs_again(engine: Engine) -> None:
    submit_many(engine, 3)
    publish_long_ago(engine)
    sender = FakeSender()
    sweep = sweep_of(engine, sender, [0.0, 4.9, 5.0])
    assert sweep.run_once() == Swept(empty=1, jobs=0)
    assert sweep.run_once() == Swept(empty=1, jobs=0)
    assert sweep.run_once() == Swept(empty=1, jobs=3)
    assert relay_of(engine, sender).run_once().jobs == 3


def test_sweep_queue_with_messages_between_two_looks_starts_anew(engine: Engine) -> None:
    submit_many(engine, 1)
    publish_long_ago(engine)
    sender = FakeSender()
    sweep = sweep_of(engine, sender, [0.0, 5.0, 10.0, 20.0])
    sweep.run_once()
    sender.ready = 1
    assert sweep.run_once() == Swept()
    sender.ready = 0
    assert sweep.run_once() == Swept(empty=1, jobs=0)
    assert sweep.run_once() == Swept(empty=1, jobs=1)


def test_sweep_queue_that_is_never_empty_brings_back_what_it_has_passed_by(engine: Engine) -> None:
    lost, waits, *run = submit_many(engine, 4)
    publish_long_ago(engine)
    run_sql(engine, "UPDATE jobs SET published_at = now() - interval '30 seconds' WHERE id <> :id", id=lost)
    run_sql(engine, "UPDATE jobs SET published_at = now() - interval '10 minutes' WHERE id = :id", id=lost)
    claim(engine, *run)
    sender = FakeSender()
    sender.ready = 1
    sweep = sweep_of(engine, sender, [0.0, 59.0, 60.0, 61.0])
    assert [sweep.run_once().jobs for _ in range(4)] == [0, 0, 1, 0]
    assert look(engine, lost).row.published_at is None
    assert look(engine, waits).row.published_at is not None


def test_sweep_broker_away_forgets_what_it_saw(engine: Engine) -> None:
    submit_many(engine, 1)
    publish_long_ago(engine)
    sender = FakeSender()
    sweep = sweep_of(engine, sender, [0.0, 100.0])
    sweep.run_once()
    sender.fails_after = 0
    with pytest.raises(BrokerAway):
        sweep.run_once()
    sender.fails_after = None
    assert sweep.run_once().jobs == 0


def test_sweep_purged_queue_on_a_real_broker_is_filled_again(engine: Engine, broker_url: str) -> None:
    submit_many(engine, 5)
    with Sender(broker_url) as sender:
        relay_of(engine, sender).run_once()
        sender.purge(STANDARD)
        publish_long_ago(engine)
        sweep = sweep_of(engine, sender, [0.0, 6.0])
        assert [sweep.run_once().jobs, sweep.run_once().jobs] == [0, 5]
        assert relay_of(engine, sender).run_once().jobs == 5
        assert sender.ready_messages(STANDARD) == 1


# --- reaper


@pytest.fixture
def reaper(engine: Engine) -> Reaper:
    return Reaper(engine, grace_s=5.0, every_s=0.05, dice=lambda: 0.5)


def test_reaper_job_lost_in_company_runs_alone_next_and_spends_nothing(engine: Engine, reaper: Reaper) -> None:
    ids = submit_many(engine, 3)
    stale = claim(engine, *ids, owner="dead:1")
    lapse_lease(engine, *ids)
    assert reaper.run_once() == Reaped(returned=3)
    for job_id in ids:
        kept = look(engine, job_id)
        assert (kept.row.status, kept.row.solo, kept.row.failures, kept.row.crashes) == ("queued", True, 0, 0)
        assert [(attempt.outcome, attempt.error["code"]) for attempt in kept.attempts] == [("lost", "worker_lost")]
        assert_promises(kept)
    assert succeed(engine, stale) == set()
    assert len(claim(engine, ids[0], solo=True)) == 1


def test_reaper_job_that_takes_down_its_process_alone_three_times_fails(engine: Engine, reaper: Reaper) -> None:
    (job_id,) = submit_many(engine, 1)
    for crash in (1, 2):
        claim(engine, job_id, solo=crash > 1)
        lapse_lease(engine, job_id)
        assert reaper.run_once() == Reaped(returned=1)
        row = look(engine, job_id).row
        assert (row.status, row.crashes, row.failures, row.solo) == ("queued", crash, 0, True)
        waits = run_sql(engine, "SELECT extract(epoch FROM available_at - now()) AS s FROM jobs")[0].s
        assert 0 < waits <= 1.5 * crash
        run_sql(engine, "UPDATE jobs SET available_at = now()")
    claim(engine, job_id, solo=True)
    lapse_lease(engine, job_id)
    assert reaper.run_once() == Reaped(lost=1)
    kept = look(engine, job_id)
    assert (kept.row.status, kept.row.error["code"], kept.row.crashes) == ("failed", "worker_lost", 3)
    assert [attempt.outcome for attempt in kept.attempts] == ["lost", "lost", "lost"]
    assert_promises(kept)


def test_reaper_lease_in_its_grace_is_left(engine: Engine, reaper: Reaper) -> None:
    (job_id,) = submit_many(engine, 1)
    claim(engine, job_id)
    lapse_lease(engine, job_id, by_s=4)
    assert reaper.run_once() == Reaped()


def test_reaper_deadline_passed_expires_queued_and_running(engine: Engine, reaper: Reaper) -> None:
    queued, running = submit_many(engine, 2)
    stale = claim(engine, running)
    run_sql(engine, "UPDATE jobs SET deadline_at = now() - interval '1 second'")
    assert reaper.run_once() == Reaped(expired=2)
    for job_id, attempts in ((queued, []), (running, ["expired"])):
        kept = look(engine, job_id)
        assert (kept.row.status, kept.row.error["code"]) == ("expired", "deadline_exceeded")
        assert [attempt.outcome for attempt in kept.attempts] == attempts
        assert_promises(kept)
    assert succeed(engine, stale) == set()


def test_reaper_several_at_once_reap_each_job_once(engine: Engine) -> None:
    ids = submit_many(engine, 200)
    for job_id in ids:
        claim(engine, job_id)
    lapse_lease(engine, *ids)
    found: list[Reaped] = []
    threads = [threading.Thread(target=lambda: found.append(Reaper(engine, grace_s=5.0, every_s=1.0).run_once())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(reaped.returned for reaped in found) == 200
    for job_id in ids:
        assert_promises(look(engine, job_id))


# --- release


def test_release_worker_gives_back_all_it_held_unspent(engine: Engine) -> None:
    one, two, other = submit_many(engine, 3)
    claim(engine, one, owner="text-1:1")
    claim(engine, two, owner="text-1:2")
    claim(engine, other, owner="text-12:1")
    assert (release_worker(engine, "text-1"), release_worker(engine, "text-1")) == (2, 0)
    for job_id in (one, two):
        kept = look(engine, job_id)
        assert (kept.row.status, kept.row.failures, kept.row.crashes, kept.row.solo, kept.row.published_at) == ("queued", 0, 0, False, None)
        assert [attempt.outcome for attempt in kept.attempts] == [Outcome.RELEASED]
    assert look(engine, other).row.status == "running"


# --- pruner


def test_pruner_takes_what_is_kept_no_longer_in_one_pass(engine: Engine) -> None:
    expired, erased, fresh = ids = submit_many(engine, 3)
    succeed(engine, claim(engine, *ids))
    run_sql(engine, "UPDATE jobs SET expires_at = now() WHERE id = :id", id=expired)
    run_sql(engine, "UPDATE jobs SET erased_at = now() - interval '31 days' WHERE id = :id", id=erased)
    with statement(engine) as connection:
        for name in ("silent", "alive"):
            beat(connection, name=name, pool="p", host="h", pid=1, concurrency=1, ready=True, busy=0, finish_per_s=0.0)
    run_sql(engine, "UPDATE worker_processes SET seen_at = now() - interval '25 hours' WHERE name = 'silent'")
    pruner = Pruner(engine, every_s=60.0)
    assert pruner.run_once() == Pruned(erased=1, deleted=1, workers=1)
    assert pruner.run_once() == Pruned()
    assert {row.id for row in run_sql(engine, "SELECT id FROM jobs")} == {expired, fresh}


def test_pruner_full_statement_says_that_there_is_more(engine: Engine) -> None:
    succeed(engine, claim(engine, *submit_many(engine, 3)))
    run_sql(engine, "UPDATE jobs SET expires_at = now()")
    pruner = Pruner(engine, every_s=60.0, limit=2)
    assert [pruner.run_once(), pruner.run_once()] == [Pruned(erased=2, more=True), Pruned(erased=1)]


# --- process


@dataclass
class CountedDuty:
    """Does what a script says: a number more passes at once, or an error."""

    name: str
    script: Iterator[bool | Exception]
    every_s: float = 0.01
    passes: int = 0
    closed: bool = False

    def run_once(self) -> Swept:
        self.passes += 1
        step = next(self.script, False)
        if isinstance(step, Exception):
            raise step
        return Swept(more=step)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_process_failing_duty_goes_on_and_hurts_no_other() -> None:
    failures = [DatabaseAway("away"), BrokerAway("away"), ValueError("a defect"), KeyError("another")]
    broken, sound = CountedDuty("broken", iter(failures)), CountedDuty("sound", iter([]))
    process = MaintenanceProcess([broken, sound], pause_s=0.001)
    process.start()
    wait_until(lambda: broken.passes > len(failures) + 2 and sound.passes > 5)
    assert process.stop()
    assert broken.closed
    assert sound.closed


def test_process_full_pass_is_followed_at_once() -> None:
    duty = CountedDuty("full", iter([True] * 50), every_s=3_600.0)
    process = MaintenanceProcess([duty])
    process.start()
    wait_until(lambda: duty.passes == 51)
    assert process.stop()


def test_process_duty_that_hangs_does_not_hold_up_the_end() -> None:
    released = threading.Event()

    class Hangs(CountedDuty):
        def run_once(self) -> Swept:
            self.passes += 1
            released.wait(30)
            return Swept()

    duty = Hangs("hangs", iter([]))
    process = MaintenanceProcess([duty])
    process.start()
    wait_until(lambda: duty.passes)
    assert not process.stop(timeout_s=0.05)
    released.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_whole_brings_a_lost_job_again_and_stops_on_a_signal(
    engine: Engine, database_url: str, broker_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """The real command: a job nobody published and one whose worker died are both in the queue soon, and the process ends within 2 s."""
    _, lost = submit_many(engine, 2, pool="text", model="vader")
    claim(engine, lost, model="vader")
    lapse_lease(engine, lost)
    run_sql(engine, "UPDATE jobs SET created_at = now() - interval '1 minute'")
    environment = {"PATH": "/usr/bin:/bin", "MILLPOND_DATABASE_URL": database_url, "MILLPOND_BROKER_URL": broker_url, "MILLPOND_REAP_EVERY_S": "0.1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "cli.main", "maintenance"], env=environment, stderr=log)
    try:
        published = "SELECT id FROM jobs WHERE status = 'queued' AND published_at IS NOT NULL"
        wait_until(lambda: len(run_sql(engine, published)) == 2 or process.poll() is not None, deadline_s=20)
        process.send_signal(number)
        assert process.wait(timeout=5) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    assert "maintenance stops" in (tmp_path / "log").read_text()
