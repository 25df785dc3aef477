"""What a failed run of a job with a choice comes to."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
import pytest

from broker.publisher import Published
from domain.catalogue import ModelSpec, QueueName
from domain.failures import (
    ContentPolicy,
    ContextTooLong,
    Failure,
    InferenceError,
    InvalidInput,
    ModelError,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
)
from domain.job import Priority
from domain.routing.decision import Wish, decide
from domain.routing.policies import cheapest
from domain.routing.policy import Candidate
from models.queries.finish import Ending, Return
from tests.support.worker_parts import claimed_job
from workers.failover import failed, moved_to
from workers.settlement import sentence


def model(pool: str, context_tokens: int) -> ModelSpec:
    return ModelSpec(task="debug.echo", pool=pool, backend="workers.backends.echo:Echo", version="1", options={"context_tokens": context_tokens})


MODELS = {"a": model("one", 1_000), "b": model("two", 1_000), "c": model("three", 8_000)}


def routing(**wish: Any) -> str:
    candidates = [Candidate(name, Decimal(cost)) for name, cost in {"a": "0.1", "b": "0.2", "c": "0.7"}.items()]
    return orjson.dumps(decide(candidates, wish=Wish(policy="cheapest", **wish), policy="cheapest", scores=cheapest.scores).as_dict()).decode()


def after(error: InferenceError, *, moves: Sequence[tuple[str, str, str]] = (), wish: dict[str, Any] | None = None, **fields: Any) -> Ending | Return:
    failovers = orjson.dumps([{"from": start, "to": to, "code": code, "at": ""} for start, to, code in moves]).decode() if moves else None
    cost_usd = fields.pop("this_costs", None)
    job = claimed_job(**{"model": "a", "routing_json": routing(**(wish or {})), "failovers_json": failovers, "failures": len(moves), **fields})
    return failed(job, Failure.of(error), models=MODELS, cost_usd=cost_usd, retry_after_s=error.retry_after_s)


def summary(outcome: Ending | Return) -> tuple[str | None, str | None, str | None]:
    """Model and pool that it goes on with, or why it ended."""
    if isinstance(outcome, Return):
        return outcome.model, outcome.pool, None
    return None, None, outcome.failure.code if outcome.failure else None


@pytest.mark.parametrize("error", [ProviderUnavailable(), ProviderRateLimited(retry_after_s=60.0), ProviderRefused(), ModelError()])
def test_failed_run_goes_on_with_the_next_model_at_once(error: InferenceError) -> None:
    outcome = after(error)
    assert summary(outcome) == ("b", "two", None)
    assert isinstance(outcome, Return)
    assert (outcome.delay_s, outcome.failure_counts, outcome.failure) == (0.0, True, Failure.of(error))


@pytest.mark.parametrize(
    ("error", "fields", "expected"),
    [
        (ProviderUnavailable(), {"model": "b", "moves": [("a", "b", "model_error")]}, ("c", "three", None)),
        (ProviderUnavailable(), {"model": "b", "moves": [("a", "b", "breaker_open")]}, ("a", "one", None)),  # a was never tried
        (ContextTooLong(), {}, ("c", "three", None)),
        (ContextTooLong(), {"model": "c"}, (None, None, "context_too_long")),
        (ContentPolicy(), {}, (None, None, "content_policy")),
        (InvalidInput(), {}, (None, None, "invalid_input")),
        (ProviderUnavailable(), {"failures": 2}, (None, None, "provider_unavailable")),  # max_attempts is 3
        (ProviderUnavailable(), {"wish": {"fallbacks": False}}, (None, None, None)),  # the same model again, after a wait
        (ProviderRefused(), {"wish": {"fallbacks": False}}, (None, None, "provider_refused")),
        (ProviderUnavailable(), {"routing_json": None}, (None, None, None)),
        (ProviderUnavailable(), {"routing_json": orjson.dumps({**orjson.loads(routing()), "fallbacks": ["gone", "c"]}).decode()}, ("c", "three", None)),
    ],
)
def test_failed_run_comes_to(error: InferenceError, fields: dict[str, Any], expected: tuple[str | None, str | None, str | None]) -> None:
    outcome = after(error, **fields)
    assert summary(outcome) == expected
    if expected == (None, None, None):
        assert isinstance(outcome, Return)
        assert (outcome.delay_s or 0.0) >= 1.0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("b", "two", None)),
        ({"cost_usd": Decimal("0.6")}, ("b", "two", None)),
        ({"cost_usd": Decimal("0.3"), "this_costs": Decimal("0.4")}, (None, None, None)),  # b no more, but a once again
        ({"cost_usd": Decimal("0.5"), "this_costs": Decimal("0.4")}, (None, None, "cost_limit")),
        ({"cost_usd": Decimal("0.9"), "error": ProviderRefused()}, (None, None, "cost_limit")),
        ({"cost_usd": Decimal("0.9"), "error": InvalidInput()}, (None, None, "invalid_input")),
    ],
)
def test_failed_run_of_a_job_with_a_limit_stays_under_it(fields: dict[str, Any], expected: tuple[str | None, str | None, str | None]) -> None:
    outcome = after(fields.pop("error", ProviderUnavailable("it is away")), wish={"max_cost_usd": Decimal("0.8")}, **fields)
    assert summary(outcome) == expected
    if expected[2] == "cost_limit" and outcome.failure:
        assert outcome.failure.message.startswith("Another attempt may cost more than max_cost_usd leaves. The last one: provider_")


def test_run_that_was_killed_for_its_time_goes_on_with_the_next_model_and_a_crash_does_not() -> None:
    job = claimed_job(model="a", routing_json=routing())
    assert summary(sentence(job, over_time=True, models=MODELS)) == ("b", "two", None)
    assert summary(sentence(job, over_time=False, raised="TypeError", models=MODELS)) == ("b", "two", None)
    lost = sentence(job, over_time=False, models=MODELS)
    assert isinstance(lost, Return)
    assert (lost.model, lost.crashed, lost.solo) == (None, True, True)


def test_workers_of_the_next_model_are_told_of_what_goes_to_it_now_and_of_nothing_else() -> None:
    job = claimed_job(model="a", routing_json=routing(), priority="interactive", fence=4)
    told = moved_to(job, failed(job, Failure.of(ProviderUnavailable()), models=MODELS))
    assert told == Published(QueueName("two", Priority.INTERACTIVE), "b", job.id, 5)
    alone = claimed_job(model="a", routing_json=routing(), solo=True)
    assert moved_to(alone, failed(alone, Failure.of(ProviderUnavailable()), models=MODELS)) is None
    assert moved_to(job, after(InvalidInput())) is None
    assert moved_to(job, after(ProviderUnavailable(), routing_json=None)) is None
