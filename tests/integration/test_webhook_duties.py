"""The duties behind webhooks: hints that reach the right lane or are taken back, batches that are done."""

from uuid import UUID

import pytest
from sqlalchemy import Engine

from broker.sender import BrokerAway, Sender
from domain.delivery import Standing
from domain.messages import HintMessage
from models.identity import new_id
from tests.support.deliveries import end_jobs, endpoint
from tests.support.jobs import TENANT, claim, run_sql, submit_many, succeed
from workers.maintenance.batch_completer import BatchCompleter
from workers.maintenance.hints import Hints


class Recorder(Sender):
    """Takes hints in place of a broker; breaks after so many."""

    def __init__(self, breaks_after: int = 1_000) -> None:
        self.sent: list[tuple[Standing, UUID]] = []
        self._breaks_after = breaks_after

    def send_hint(self, standing: Standing, message: HintMessage) -> None:
        if len(self.sent) >= self._breaks_after:
            raise BrokerAway("away")
        self.sent.append((standing, message.endpoint_id))


def hinted(engine: Engine) -> set[UUID]:
    return {row.id for row in run_sql(engine, "SELECT id FROM webhook_endpoints WHERE hinted_at IS NOT NULL")}


def test_hints_go_to_the_lane_of_the_endpoint_those_that_work_first(engine: Engine) -> None:
    ids = {standing: endpoint(engine, standing=standing) for standing in ("failing", "new", "good")}
    idle = endpoint(engine, events=("batch.completed",))
    end_jobs(engine, 40)
    sender = Recorder()
    done = Hints(engine, sender, every_s=0.1).run_once()
    assert sender.sent == [(Standing.GOOD, ids["good"])] * 3 + [(Standing.NEW, ids["new"]), (Standing.FAILING, ids["failing"])]
    assert (done.endpoints, done.messages, done.more) == (3, 5, False)
    assert hinted(engine) == set(ids.values())
    assert idle not in hinted(engine)
    assert Hints(engine, sender, every_s=0.1).run_once().messages == 0, "a message speaks of them already"


def test_hints_that_no_broker_takes_are_taken_back_and_few_are_tried_next(engine: Engine) -> None:
    for _ in range(20):
        endpoint(engine)
    end_jobs(engine, 1)
    sender = Recorder(breaks_after=1)
    duty = Hints(engine, sender, every_s=0.1)
    with pytest.raises(BrokerAway):
        duty.run_once()
    assert hinted(engine) == {endpoint_id for _, endpoint_id in sender.sent}
    sender._breaks_after = 1_000
    assert (duty.run_once().endpoints, duty.run_once().endpoints) == (8, 11)


def test_hints_when_the_process_stops_are_taken_back(engine: Engine) -> None:
    endpoint(engine)
    end_jobs(engine, 1)
    duty = Hints(engine, Recorder(), every_s=0.1)
    duty.stop()
    assert duty.run_once().messages == 0
    assert not hinted(engine)


def test_batch_is_completed_once_its_last_job_has_ended(engine: Engine) -> None:
    batch_id = new_id()
    run_sql(engine, "INSERT INTO batches (id, tenant_id, key_id, total) VALUES (:id, :tenant, :tenant, 2)", id=batch_id, tenant=TENANT)
    first, last = submit_many(engine, 2, batch_id=batch_id)
    one = endpoint(engine)
    duty = BatchCompleter(engine, every_s=1.0)
    succeed(engine, claim(engine, first))
    assert duty.run_once().batches == 0
    succeed(engine, claim(engine, last))
    assert (duty.run_once().batches, duty.run_once().batches) == (1, 0)
    types = [row.type for row in run_sql(engine, "SELECT type FROM webhook_deliveries WHERE endpoint_id = :id ORDER BY id", id=one)]
    assert sorted(types) == ["batch.completed", "job.succeeded", "job.succeeded"]
