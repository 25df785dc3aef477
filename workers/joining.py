"""Joining: from a parent whose children have ended to its own end, or to the list of reviews.

A parent is claimed, leased and reaped as any job is. What its children gave is read when it is claimed and written, with the verdict, by the unit of
work that ends it: a join that dies on the way has changed nothing, and is run again.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine

from domain.agreement.joining import Decision
from domain.catalogue import JOIN_TASK, Catalogue
from domain.failures import Failure, NoAgreement, RejectedInReview
from domain.ids import Prefix, encode
from domain.job import Outcome, Status
from models.queries.claim import ClaimedJob
from models.queries.consensus import Child, Family, ask_for_review, read_families, store_report, usage_of
from models.queries.finish import Ending, Return, finish_jobs, return_jobs
from models.transactions import unit_of_work
from workers.patience import patiently


class Joiner:
    """Joins the parents of one dispatch.

    Args:
        engine: the database.
        catalogue: which contract a parent's task has.
        qualities: how good each model is known to be.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue, qualities: Callable[[], Mapping[str, float | None]]) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._qualities = qualities
        self._families: dict[UUID, Family] = {}
        self._reports: dict[UUID, Mapping[str, Any]] = {}
        self._tenants: dict[UUID, UUID] = {}

    def gather(self, jobs: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """The same jobs with what their children answered in the place of their inputs: what the join backend takes.

        They run within the time-out of the join's own task: what the caller gave bounds the models, and a join may have to load an embedder first.
        """
        self._families = patiently(self._engine, lambda connection: read_families(connection, ids=[job.id for job in jobs], outputs=True))
        self._tenants = {job.id: job.tenant_id for job in jobs}
        timeout_s = self._catalogue.tasks[JOIN_TASK].timeout_s
        return [replace(job, input_json=self._question(job), timeout_s=timeout_s) for job in jobs]

    def settle(self, job: ClaimedJob, verdict: Any) -> Ending | Return:
        """What a verdict of the join backend comes to."""
        self._reports[job.id] = verdict.model_dump(mode="json", exclude={"output"})
        match Decision(verdict.decision):
            case Decision.REVIEW:
                return Return(id=job.id, fence=job.fence, outcome=Outcome.HELD, delay_s=None)
            case Decision.NO_AGREEMENT:
                return self._ending(job, Status.FAILED, failure=Failure.of(NoAgreement()))
            case Decision.REJECTED:
                why = orjson.loads(job.input_json)["resolution"]["reject"]
                return self._ending(job, Status.FAILED, failure=Failure.of(RejectedInReview(why)))
            case _:
                return self._ending(job, Status.SUCCEEDED, output_json=orjson.dumps(verdict.output).decode())

    def write(self, outcomes: Sequence[Ending | Return]) -> int:
        """Writes endings and returns, each with its report in one transaction; returns how many were ours to write.

        Raises:
            DatabaseAway, LockedRow: for over a minute; the leases end meanwhile, and the reaper takes over.
        """
        return sum(patiently(self._engine, functools.partial(self._write, outcome), within=unit_of_work) for outcome in outcomes)

    def _write(self, outcome: Ending | Return, connection: Connection) -> int:
        if isinstance(outcome, Ending):
            done = finish_jobs(connection, endings=[self._with_usage(outcome)])
        else:
            done = return_jobs(connection, returns=[outcome])
        for job_id in done:
            if isinstance(outcome, Ending) or outcome.outcome is Outcome.HELD:
                report = {**self._reports.get(job_id, {}), "failures": self._failures(job_id)}
                store_report(connection, job_id=job_id, report_json=orjson.dumps(report).decode())
            if isinstance(outcome, Return) and outcome.outcome is Outcome.HELD:
                ask_for_review(connection, job_id=job_id, tenant_id=self._tenants[job_id])
        return len(done)

    def _question(self, job: ClaimedJob) -> str:
        family = self._families[job.id]
        rule = orjson.loads(family.rule_json)
        review, task = family.review, self._catalogue.tasks.get(job.task)
        qualities = self._qualities()
        question = {
            "contract": "" if task is None else task.contract,
            "asked": orjson.Fragment(job.input_json),
            "answers": [_answer(child, qualities.get(child.model)) for child in family.children if child.output_json is not None],
            "min_agreement": rule["min_agreement"],
            "on_disagreement": rule["on_disagreement"],
            "resolution": orjson.Fragment(review.resolution_json) if review is not None and review.resolution_json is not None else None,
        }
        return orjson.dumps(question).decode()

    def _failures(self, job_id: UUID) -> list[dict[str, Any]]:
        return [
            {
                "job_id": encode(Prefix.JOB, child.id),
                "model": child.model,
                "status": child.status,
                "error": None if child.error_json is None else orjson.loads(child.error_json),
            }
            for child in self._families[job_id].children
            if child.status is not Status.SUCCEEDED
        ]

    def _with_usage(self, ending: Ending) -> Ending:
        usage: Any = usage_of(self._families[ending.id].children)
        return replace(ending, **usage) if usage else ending

    @staticmethod
    def _ending(job: ClaimedJob, status: Status, **fields: Any) -> Ending:
        return Ending(id=job.id, fence=job.fence, status=status, failure_counts=status is Status.FAILED, may_be_child=False, **fields)


def _answer(child: Child, quality: float | None) -> dict[str, Any]:
    return {"model": child.model, "quality": quality, "output": orjson.Fragment(child.output_json or "null")}
