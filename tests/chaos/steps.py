"""What fault tests do again and again."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from broker.sender import Sender
from domain.catalogue import QueueName
from domain.job import Priority
from domain.messages import JobsMessage
from tests.support.jobs import cancel, run_sql
from tests.support.platform import Api, Platform
from tests.support.waiting import wait_until

STANDARD = QueueName("debug", Priority.STANDARD)
ONCE_HANGING = {"payload": 1, "fail": "hang", "fail_attempts": 1}  # hangs at its first attempt, answers at once at the next


def echoes(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Inputs of so many good jobs, each with a payload that is its own."""
    return [{"payload": {"number": number}, **fields} for number in range(count)]


def canceled(mill: Platform, *ids: UUID) -> None:
    """Cancels jobs as the API does: again, if somebody else moved them meanwhile."""
    for job_id in ids:

        def tried(job_id: UUID = job_id) -> bool:
            return bool(cancel(mill.engine, job_id, mill.jobs([job_id])[0].fence))

        wait_until(tried, 5.0, what=f"{job_id} to be canceled")


def accepted(api: Api, count: int, **value: Any) -> list[UUID]:
    """Submits so many echoes by HTTP; each must be answered 202."""
    answers = [api.post({"payload": {"number": number}, **value}) for number in range(count)]
    assert [answer.status_code for answer in answers] == [202] * count
    return [job_uuid(answer.json()["id"]) for answer in answers]


def job_uuid(public_id: str) -> UUID:
    """The UUID behind a public id: Crockford's base32, lower case."""
    number = 0
    for char in public_id.removeprefix("job_"):
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(char)
    return UUID(int=number)


def accepted_for(api: Api, seconds: float) -> list[UUID]:
    """Submits an echo ten times a second, for so long."""
    ids: list[UUID] = []

    def submitted_all() -> bool:
        ids.extend(accepted(api, 1))
        return False

    with pytest.raises(TimeoutError):
        wait_until(submitted_all, seconds, every_s=0.1)
    return ids


def never_final(mill: Platform, ids: Sequence[UUID], within_s: float = 6.0) -> None:
    """Nobody brings these jobs to an end, though with all duties in place it takes less than that."""
    with pytest.raises(TimeoutError, match="not final"):
        mill.wait_final(ids, within_s=within_s)


def seen_idle(mill: Platform, worker: str) -> None:
    """Waits until a worker says that it runs nothing, in a report that it makes after now."""
    (now,) = run_sql(mill.engine, "SELECT now() AS now")

    def idle() -> bool:
        query = "SELECT 1 FROM worker_processes WHERE name = :name AND busy = 0 AND seen_at > :now + interval '0.1 s'"
        return bool(run_sql(mill.engine, query, name=worker, now=now.now))

    wait_until(idle, 20.0, what=f"{worker} to be idle")


def sent(mill: Platform, *messages: JobsMessage) -> None:
    """Puts messages of one's choice into the queue."""
    with Sender(mill.broker_url) as sender:
        for message in messages:
            sender.send(STANDARD, message)


def ready_messages(mill: Platform) -> int:
    """How many messages wait in the broker."""
    with Sender(mill.broker_url) as sender:
        return sender.ready_messages(STANDARD)
