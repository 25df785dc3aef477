"""Shadows: a share of a task's jobs is run by a candidate too, to be compared. The caller neither sees it nor waits or pays for it."""

from dataclasses import replace
from hashlib import sha256

from api.context import ApiContext
from domain.job import ChildRole, Priority
from models.identity import new_id
from models.queries.submit import NewJob

DEADLINE_S = 3_600.0  # one that has not run by then is dropped: where there is no room for it, it must not pile up
RETENTION_S = 3_600.0  # it goes when it has been compared; at the latest so long after its end


def with_shadow(job: NewJob, *, context: ApiContext) -> NewJob:
    """The job, with its shadow if it is to have one; both are written by the same statement.

    Which jobs have one is decided by a hash of the tenant and the input: the same input always has one, or never.
    A job that is delayed, made of others or does run on the candidate has none, nor has one that gives what the candidate does not take.
    """
    shadow = context.catalogue.tasks[job.task].shadow
    if shadow is None or job.model == shadow.model or job.children or job.not_before is not None:
        return job
    if not shadow.takes(sha256(job.tenant_id.bytes + job.input_json.encode()).digest()) or not context.installed(shadow.model):
        return job
    candidate = context.catalogue.models[shadow.model]
    if candidate.lacks and candidate.not_taken(context.catalogue.contracts[job.task].input.model_validate_json(job.input_json)):
        return job
    child = NewJob(
        id=new_id(),
        tenant_id=job.tenant_id,
        key_id=job.key_id,
        task=job.task,
        model=shadow.model,
        pool=candidate.pool,
        priority=Priority.FLEX,
        max_attempts=1,
        timeout_s=job.timeout_s,
        deadline_s=min(job.deadline_s, DEADLINE_S),
        retention_s=RETENTION_S,
        input_json=job.input_json,
        files=job.files,
        child_role=ChildRole.SHADOW,
    )
    return replace(job, children=(child,))
