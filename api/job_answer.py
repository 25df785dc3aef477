"""A job in an answer: what its row says, and how its webhook stands."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from api.cascade import cascade_json
from api.consensus import with_family
from api.context import ApiContext
from models.job_json import job_json
from models.queries.consensus import Family, read_families
from models.queries.delivery_history import WebhookState, delivery_state_of_jobs
from models.queries.read import JobView
from models.transactions import statement, unit_of_work

WAITING = WebhookState(state="waiting", tries=0, next_try_at=None)  # of a job that was just taken


def with_webhook(body: dict[str, Any], webhook: WebhookState | None) -> dict[str, Any]:
    """The JSON of a job with how its webhook stands; None for a job that asked for none."""
    body["webhook"] = None if webhook is None else {"state": webhook.state, "tries": webhook.tries, "next_try_at": webhook.next_try_at}
    return body


def job_answers(jobs: Sequence[JobView], base: str, *, context: ApiContext, whole: bool = True) -> list[dict[str, Any]]:
    """Jobs as the API answers them; one query for those that have webhooks, however many, and two for those that have children.

    Args:
        jobs: what the database says of them.
        base: where the API is, without a slash at the end.
        context: the application's.
        whole: with input, output and children; lists leave them out.
    """
    webhooks: dict[UUID, WebhookState] = {}
    if with_webhooks := [job.id for job in jobs if job.has_webhook]:
        with statement(context.engine) as connection:
            webhooks = delivery_state_of_jobs(connection, job_ids=with_webhooks)
    answers = [with_webhook(job_json(job, base, whole=whole), webhooks.get(job.id)) for job in jobs]
    if whole:
        families: dict[UUID, Family] = {}
        if parents := [job.id for job in jobs if job.pending_children is not None]:
            with unit_of_work(context.engine) as connection:
                families = read_families(connection, ids=parents)
        answers = [with_family(answer, families.get(job.id), base) | {"cascade": cascade_json(job, context)} for answer, job in zip(answers, jobs, strict=True)]
    return answers


def job_answer(job: JobView, base: str, *, context: ApiContext) -> dict[str, Any]:
    """One job, whole."""
    return job_answers([job], base, context=context)[0]
