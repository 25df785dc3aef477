"""What running jobs say meanwhile, as it is kept; and outputs that the database refuses."""

import json
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from domain.job import Status
from models.queries.claim import ClaimedJob
from models.queries.finish import Ending, finish_jobs
from tests.support.jobs import claim, look, submit_many
from workers import execution
from workers.execution import write_outcomes
from workers.journal import Journal


def _deltas(engine: Engine, job_id: UUID) -> list[dict[str, object]]:
    return [event.data for event in look(engine, job_id).events if event.type == "output.delta"]


def _journal(engine: Engine, *jobs: ClaimedJob, restarted: bool) -> Journal:
    return Journal(engine, [(job.id, job.fence) for job in jobs], restarted=restarted)


def test_journal_of_a_job_that_runs_again_says_once_that_what_came_before_is_void(engine: Engine) -> None:
    (job,) = claim(engine, *submit_many(engine, 1))
    for restarted, words in ((False, ("a mill",)), (True, ("a", " mill pond"))):
        journal = _journal(engine, job, restarted=restarted)
        for word in words:
            journal.text(0, word)
            journal.flush()

    assert _deltas(engine, job.id) == [{"text": "a mill"}, {"text": "a", "restarted": True}, {"text": " mill pond"}]


def test_journal_with_a_stale_fence_beside_the_newest_writes_for_the_newest_alone(engine: Engine) -> None:
    (job,) = claim(engine, *submit_many(engine, 1))
    journal = Journal(engine, [(job.id, job.fence - 1), (job.id, job.fence)])
    journal.text(0, "stale")
    journal.text(1, "new")
    journal.flush()

    assert _deltas(engine, job.id) == [{"text": "new"}]


def test_output_that_the_database_refuses_fails_alone_and_its_mates_keep_theirs(engine: Engine) -> None:
    good, bad = claim(engine, *submit_many(engine, 2))
    endings = [
        Ending(id=good.id, fence=good.fence, status=Status.SUCCEEDED, output_json='{"payload": 1}'),
        Ending(id=bad.id, fence=bad.fence, status=Status.SUCCEEDED, output_json="no JSON"),
    ]

    assert write_outcomes(engine, endings) == 2

    assert [look(engine, job.id).row.status for job in (good, bad)] == ["succeeded", "failed"]
    assert look(engine, bad.id).row.error["code"] == "invalid_output"


def test_outputs_too_large_for_one_message_to_the_server_are_written_in_several(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[int] = []

    def finish(connection: Connection, *, endings: Sequence[Ending]) -> set[UUID]:
        statements.append(len(endings))
        return finish_jobs(connection, endings=endings)

    monkeypatch.setattr(execution, "finish_jobs", finish)
    monkeypatch.setattr(execution, "MOST_CHARS_TOGETHER", 100)
    jobs = claim(engine, *submit_many(engine, 5))
    sizes = (40, 40, 40, 400, 10)

    endings = [Ending(id=job.id, fence=job.fence, status=Status.SUCCEEDED, output_json=json.dumps("x" * size)) for job, size in zip(jobs, sizes, strict=True)]

    assert write_outcomes(engine, endings) == 5
    assert statements == [2, 1, 1, 1]
    assert [len(look(engine, job.id).outputs[0].output) for job in jobs] == [*sizes]
