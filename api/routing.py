"""The route of a request: what is wrong with it, and the decision that it leads to."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any

from api.choices import choices
from api.context import ApiContext
from api.schemas.jobs import JobRequest, Route
from domain.catalogue import Catalogue, ModelSpec, TaskSpec
from domain.errors import MAX_ECHO_CHARS, FieldError, ModelNotInstalled, ValidationFailed
from domain.keys import Principal
from domain.routing.decision import Decision, OverLimit, Wish, decide, kept_model
from domain.routing.estimate import estimate_usage
from domain.routing.policy import Candidate
from domain.usage import Usage

ROUTE_KEY = "route_key"  # of metadata: jobs of a tenant that have the same one get the same canary

_ANY = Route()


def route_errors(wanted: JobRequest, catalogue: Catalogue, pointer: str) -> Iterator[FieldError]:
    """What is wrong with the names in a request's route; its task is known to be one."""
    route = wanted.route
    if route is None:
        return
    if route.policy is not None and route.policy not in catalogue.scores:
        known = choices(route.policy, catalogue.scores)
        yield FieldError(f"{pointer}/route/policy", "unknown_policy", f"there is no policy {route.policy[:MAX_ECHO_CHARS]!r}; {known}")
    models = catalogue.models_of_task(wanted.task)
    for number, name in enumerate([] if isinstance(route.fallbacks, bool) else route.fallbacks):
        if name not in models:
            problem = f"{wanted.task} has no model {name[:MAX_ECHO_CHARS]!r}; {choices(name, models)}"
            yield FieldError(f"{pointer}/route/fallbacks/{number}", "unknown_model", problem)


def has_choice(wanted: JobRequest, catalogue: Catalogue) -> bool:
    """Whether there is something to decide. A pinned model, or the only one that is in question, needs no decision and pays for none."""
    task, route = catalogue.tasks[wanted.task], wanted.route
    if route is not None and (route.max_cost_usd is not None or not isinstance(route.fallbacks, bool)):
        return True
    open_to_others = task.interchangeable or bool(task.weights) or (route is not None and route.policy is not None)
    return wanted.model is None and open_to_others and len(catalogue.models_of_task(wanted.task)) > 1


def not_installed(model: str, context: ApiContext) -> ModelNotInstalled:
    """Says what to do about a model that cannot run here."""
    spec = context.catalogue.models[model]
    if context.catalogue.pools[spec.pool].optional:
        brings = f"`make run POOLS={spec.pool}` brings it, or MILLPOND_POOLS and `millpond models pull {model}`"
        return ModelNotInstalled(f"{model} runs in the optional pool {spec.pool}: {brings}.")
    if spec.provider_key is not None and not spec.files:
        return ModelNotInstalled(f"The key of {model}'s provider, {spec.provider_key!r}, is not in MILLPOND_PROVIDER_KEYS here.")
    where = f"its weights are missing (`millpond models pull {model}` fetches them), or its pool {spec.pool} is left out"
    return ModelNotInstalled(f"{model} cannot run here: {where}; `millpond doctor` says more.")


def refuse_what_none_takes(models: Collection[str], parsed: Any, *, context: ApiContext, pointer: str) -> None:
    """Lets an input pass if one of the models takes all that it gives.

    Args:
        models: those that may have the job, one at least.
        parsed: the input by the task's contract.
        context: the application's.
        pointer: where in the body the request stands.

    Raises:
        ValidationFailed: none does; names the fields, and who does not take them.
    """
    not_taken = {name: context.catalogue.models[name].not_taken(parsed) for name in models}
    if all(not_taken.values()):
        raise ValidationFailed(errors=list(unsupported_fields(not_taken, pointer)))


def unsupported_fields(not_taken: Mapping[str, Sequence[str]], pointer: str) -> Iterator[FieldError]:
    """The fields of an input that models do not take, each with the names of those.

    Args:
        not_taken: by model, what the input gives that it does not take.
        pointer: where in the body the request stands.
    """
    for field in dict.fromkeys(field for fields in not_taken.values() for field in fields):
        names = ", ".join(name for name, fields in not_taken.items() if field in fields)
        yield FieldError(f"{pointer}/input/{field}", "unsupported_by_model", f"is not taken by {names}")


def choose(wanted: JobRequest, parsed: Any, input_json: bytes, *, context: ApiContext, principal: Principal, pointer: str) -> Decision:
    """Chooses a model by the policy, from what is known of all of them; asks the database nothing.

    Args:
        wanted: the request, without errors.
        parsed: its input by the task's contract.
        input_json: its input as it will be stored.
        context: the application's.
        principal: who submits.
        pointer: where in the body the request stands.

    Raises:
        ModelNotInstalled: no model of the task is installed, or not the one that is pinned, or that the job keeps to.
        ValidationFailed: ``max_cost_usd``, or what the input asks for, leaves no model.
    """
    catalogue = context.catalogue
    task, route = catalogue.tasks[wanted.task], wanted.route or _ANY
    models = catalogue.models_of_task(wanted.task)
    installed = {name: model for name, model in models.items() if context.installed(name)}
    key = _key(wanted, task, input_json, principal)
    kept = kept_model(task.default_model, task.weights, key) if not (task.interchangeable or wanted.model or route.policy) else None
    fixed = wanted.model or kept
    if not installed or (fixed and fixed not in installed):
        raise not_installed(fixed or task.default_model, context)
    refuse_what_none_takes([fixed] if fixed else installed, parsed, context=context, pointer=pointer)
    excluded = {name: "its weights are not installed" for name in models if name not in installed}
    excluded |= {name: f"it takes no {', '.join(not_taken)}" for name, model in installed.items() if (not_taken := model.not_taken(parsed))}
    limit = None if route.max_cost_usd is None else Decimal(route.max_cost_usd)
    has_limit = "max_tokens" in catalogue.contracts[wanted.task].input.model_fields
    usage = estimate_usage(wanted.input, max_tokens=parsed.max_tokens if has_limit else None)
    policy = route.policy or task.policy
    try:
        decision = decide(
            [_candidate(name, model, usage, default=name == task.default_model, context=context) for name, model in models.items() if name not in excluded],
            wish=Wish(wanted.model, route.policy, route.fallbacks if isinstance(route.fallbacks, bool) else tuple(route.fallbacks), limit),
            policy=policy,
            scores=catalogue.scores[policy],
            weights=task.weights,
            key=key,
            excluded=excluded,
            kept=kept,
            interchangeable=task.interchangeable,
        )
    except OverLimit as error:
        problem = f"no model is estimated to do this for so little; {error}"
        raise ValidationFailed(errors=[FieldError(f"{pointer}/route/max_cost_usd", "max_cost_too_low", problem)]) from error
    context.routed(decision.model)
    return decision


def _key(wanted: JobRequest, task: TaskSpec, input_json: bytes, principal: Principal) -> bytes:
    """What jobs have in common that a canary does not part: the tenant, and its route key or the input; the tenant alone where results are to compare."""
    if ROUTE_KEY in wanted.metadata:
        return principal.tenant_id.bytes + wanted.metadata[ROUTE_KEY].encode()
    return principal.tenant_id.bytes + (sha256(input_json).digest() if task.interchangeable else b"")


def _candidate(name: str, model: ModelSpec, usage: Usage, *, default: bool, context: ApiContext) -> Candidate:
    return Candidate(name, model.price.cost_usd(usage), context.quality(name), default, model.max_batch_size, context.facts(name))
