"""Cascades: what is wrong with such a request, the order of its models, and what each step gave."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
from pydantic import ValidationError

from api.choices import choices
from api.context import ApiContext
from api.schemas.jobs import JobRequest, Route
from domain.errors import MAX_ECHO_CHARS, FieldError
from domain.job import Status
from domain.routing.cascade import Cascade
from domain.routing.estimate import estimate_usage
from domain.routing.policy import usd
from models.queries.read import JobView

LEAST_MODELS = 2


def cascade_errors(wanted: JobRequest, parsed: Any, *, context: ApiContext, pointer: str) -> Iterator[FieldError]:
    """What is wrong with a request for a cascade; its task is known to be one, and ``parsed`` its input by the contract, None where that is wrong."""
    cascade = wanted.cascade
    if cascade is None:
        return
    here, known = f"{pointer}/cascade", context.catalogue.models_of_task(wanted.task)
    for name in ("model", "route", "consensus"):
        if getattr(wanted, name) is not None:
            yield FieldError(f"{pointer}/{name}", "conflicting_fields", "cannot stand beside `cascade`, which names the models itself")
    if context.catalogue.contracts[wanted.task].confidence is None:
        yield FieldError(here, "not_available", f"answers of {wanted.task} do not say how sure they are")
    for place, name in enumerate(cascade.models or ()):
        if name not in known:
            yield FieldError(f"{here}/models/{place}", "unknown_model", f"{wanted.task} has no model {name[:MAX_ECHO_CHARS]!r}; {choices(name, known)}")
        elif name in (cascade.models or ())[:place]:
            yield FieldError(f"{here}/models/{place}", "invalid_value", f"{name} is named already")
    if cascade.models is None and len(context.able(wanted.task, parsed)) < LEAST_MODELS:
        yield FieldError(here, "out_of_range", f"{wanted.task} has no two installed models that take this")


def cascade_of(wanted: JobRequest, parsed: Any, context: ApiContext) -> Cascade | None:
    """The cascade of a request without errors; where it names no models, all that are installed and take its input, the cheapest by estimate first."""
    if wanted.cascade is None:
        return None
    models = wanted.cascade.models
    if models is None:
        usage = estimate_usage(wanted.input, max_tokens=getattr(parsed, "max_tokens", None))
        known = context.catalogue.models_of_task(wanted.task)
        models = sorted(context.able(wanted.task, parsed), key=lambda name: (known[name].price.cost_usd(usage), name))
    return Cascade(tuple(models), wanted.cascade.min_confidence)


def as_route(wanted: JobRequest, cascade: Cascade) -> JobRequest:
    """The same request as a route: the first model pinned, the others after it in their order."""
    return wanted.model_copy(update={"model": cascade.models[0], "route": Route(fallbacks=list(cascade.models[1:]))})


def cascade_json(job: JobView, context: ApiContext) -> dict[str, Any] | None:
    """What each step of a cascade gave, and what was saved against asking the last model at once; None for a job that is none.

    The last model's cost is what it took where it ran, else as it was estimated at submit.
    """
    routing = orjson.loads(job.routing_json) if job.routing_json else {}
    cascade = Cascade.of(routing)
    if cascade is None:
        return None
    moves = orjson.loads(job.failovers_json) if job.failovers_json else []
    steps = [{"model": move["from"], "outcome": move["code"], "confidence": move.get("confidence"), "cost_usd": move.get("cost_usd")} for move in moves]
    spent = job.cost_usd or Decimal(0)
    last_usd = spent - sum((Decimal(step["cost_usd"]) for step in steps if step["cost_usd"]), Decimal(0))
    body = {**cascade.as_dict(), "steps": steps, "cost_usd": usd(spent), "saved_usd": None}
    if job.status is Status.SUCCEEDED:
        steps.append({"model": job.model, "outcome": "answered", "confidence": _confidence(job, context), "cost_usd": usd(last_usd)})
        estimates = {each["model"]: Decimal(each["estimated_cost_usd"]) for each in routing["candidates"]}
        top = cascade.models[-1]
        direct_usd = last_usd if job.model == top else estimates.get(top)
        body["saved_usd"] = None if direct_usd is None else usd(direct_usd - spent)
    return body


def _confidence(job: JobView, context: ApiContext) -> float | None:
    contract = context.catalogue.contracts.get(job.task)
    if contract is None or contract.confidence is None or job.output_json is None:
        return None
    try:
        return round(contract.confidence(contract.output.model_validate_json(job.output_json)), 6)
    except ValidationError:  # the contract has changed since
        return None
