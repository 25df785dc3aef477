"""Jobs that several models answer: what is wrong with such a request, the family that it becomes, and how a family looks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from api.choices import choices
from api.context import ApiContext
from api.routing import unsupported_fields
from api.schemas.consensus import ConsensusRequest
from api.schemas.jobs import JobRequest
from domain.errors import MAX_ECHO_CHARS, FieldError
from domain.ids import Prefix, encode
from domain.job import ChildRole, Status
from domain.quality import assumed
from models.identity import new_id
from models.job_json import stored_json
from models.queries.consensus import Child, Family, Review, usage_of
from models.queries.submit import NewJob

JOIN_SHARE = 0.1  # of the time that a family has, at the end of which the join must be able to run without models that did not end
MOST_JOIN_S = 60.0

_NOTHING_YET: dict[str, Any] = {
    "decision": None,
    "agreement": None,
    "model": None,
    "leader": None,
    "method": None,
    "answered": [],
    "matrix": [],
    "dissents": [],
    "failures": [],
}


def consensus_errors(wanted: JobRequest, parsed: Any, *, context: ApiContext, pointer: str) -> Iterator[FieldError]:
    """What is wrong with a request for several answers; its task is known to be one.

    Args:
        wanted: the request.
        parsed: its input by the task's contract; None where that is wrong.
        context: the application's.
        pointer: where in the body the request stands.
    """
    consensus = wanted.consensus
    if consensus is None:
        return
    here, comparator = f"{pointer}/consensus", context.catalogue.contracts[wanted.task].comparator
    for name in ("model", "route"):
        if getattr(wanted, name) is not None:
            yield FieldError(f"{pointer}/{name}", "conflicting_fields", "cannot stand beside `consensus`, which names the models itself")
    if context.catalogue.join_model is None:
        yield FieldError(here, "not_available", "this service has nothing that joins answers")
    if comparator is None:
        yield FieldError(here, "not_comparable", f"answers of {wanted.task} cannot be compared")
    elif parsed is not None and (refusal := comparator.refusal(parsed)) is not None:
        yield FieldError(here, "not_comparable", refusal)
    if (consensus.models is None) == (consensus.n is None):
        yield FieldError(here, "conflicting_fields", "takes either `models` or `n`")
    elif consensus.models is not None:
        yield from _model_errors(consensus.models, wanted.task, parsed, context=context, pointer=pointer)
    elif consensus.n is not None and consensus.n > (able := len(_best(wanted.task, parsed, context))):
        yield FieldError(f"{here}/n", "out_of_range", f"{wanted.task} has {able} installed models that take this")


def models_of(consensus: ConsensusRequest, task: str, parsed: Any, context: ApiContext) -> list[str]:
    """The models that a request without errors asks for, whose input by the task's contract is ``parsed``."""
    return list(consensus.models) if consensus.models is not None else _best(task, parsed, context)[: consensus.n]


def make_family(job: NewJob, consensus: ConsensusRequest, models: Sequence[str], *, context: ApiContext) -> NewJob:
    """The parent of a job that each of several models runs: its own work is the join.

    Children expire a little before it, so that it is joined from those which have ended where one never does.

    Args:
        job: as one model alone would have it.
        consensus: the request, without errors.
        models: those that it asks for, all installed.
        context: the application's.
    """
    catalogue = context.catalogue
    join_model = catalogue.join_model or job.model
    delay_s = 0.0 if job.not_before is None else max(0.0, (job.not_before - context.now()).total_seconds())
    deadline_s = job.deadline_s - min(MOST_JOIN_S, JOIN_SHARE * (job.deadline_s - delay_s))
    alone = replace(job, deadline_s=deadline_s, webhook=None, batch_id=None, custom_id=None, metadata_json=None, child_role=ChildRole.CONSENSUS)
    rule = {"models": list(models), "min_agreement": consensus.min_agreement, "on_disagreement": consensus.on_disagreement}
    return replace(
        job,
        model=join_model,
        pool=catalogue.models[join_model].pool,
        consensus_json=orjson.dumps(rule).decode(),
        children=tuple(replace(alone, id=new_id(), model=model, pool=catalogue.models[model].pool) for model in models),
    )


def new_family(job: NewJob) -> Family | None:
    """What the database would say of a family that was just written; None for a job without one."""
    if job.consensus_json is None:
        return None
    children = [Child(child.id, child.model, Status.QUEUED, 1, None, None, None, None) for child in job.children]
    return Family(job.consensus_json, None, None, children)


def with_family(body: dict[str, Any], family: Family | None, base: str) -> dict[str, Any]:
    """The JSON of a job with its children and what came of them; None for a job without any."""
    if family is None:
        return body | {"children": None, "consensus": None, "review": None}
    report = orjson.loads(family.report_json) if family.report_json else {}
    body |= {
        "children": [_child_json(child, base) for child in family.children],
        "consensus": {**orjson.loads(family.rule_json), **_NOTHING_YET, **report},
        "review": None if family.review is None else review_json(family.review),
    }
    if body["usage"] is None:
        body["usage"] = usage_of(family.children)
    return body


def review_json(review: Review) -> dict[str, Any]:
    """What a person was asked, and said."""
    return {
        "asked_at": review.asked_at,
        "resolved_at": review.resolved_at,
        "resolved_by": encode(Prefix.KEY, review.resolved_by) if review.resolved_by else None,
        "resolution": stored_json(review.resolution_json),
    }


def _child_json(child: Child, base: str) -> dict[str, Any]:
    public_id = encode(Prefix.JOB, child.id)
    return {
        "id": public_id,
        "model": child.model,
        "status": child.status,
        "error": stored_json(child.error_json),
        "urls": {"self": f"{base}/v1/jobs/{public_id}"},
    }


def _model_errors(names: Sequence[str], task: str, parsed: Any, *, context: ApiContext, pointer: str) -> Iterator[FieldError]:
    known, here = context.catalogue.models_of_task(task), f"{pointer}/consensus/models"
    for place, name in enumerate(names):
        if name not in known:
            yield FieldError(f"{here}/{place}", "unknown_model", f"{task} has no model {name[:MAX_ECHO_CHARS]!r}; {choices(name, known)}")
        elif name in names[:place]:
            yield FieldError(f"{here}/{place}", "invalid_value", f"{name} is named already")
    if parsed is not None:
        yield from unsupported_fields({name: known[name].not_taken(parsed) for name in names if name in known}, pointer)


def _best(task: str, parsed: Any, context: ApiContext) -> list[str]:
    """The installed models that take an input (None for a wrong one), the best first, as ``best`` has them: of two alike the default one, then by name."""
    default = context.catalogue.tasks[task].default_model
    return sorted(context.able(task, parsed), key=lambda name: (-assumed(context.quality(name)), name != default, name))
