"""How models do: by the minute over all tenants, for routes; by the day for each tenant, for its reports.

Both are written by whoever ends runs, some seconds' worth at a time, and never per job.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import orjson
from sqlalchemy import Connection, Row, text

from domain.run_counts import RunCounts, failures_of_the_model

WINDOW_S = 300.0  # routes look so far back: long enough for a few hundred runs of a busy model, short enough to forget an outage

_ADDED = """(
    SELECT coalesce(jsonb_object_agg(key, n), '{{}}') FROM (
        SELECT key, sum(CAST(value AS bigint)) AS n
        FROM (SELECT * FROM jsonb_each_text(t.{column}) UNION ALL SELECT * FROM jsonb_each_text(excluded.{column})) both_of_them GROUP BY key
    ) sums
)"""
_FAILURES, _RUN_MS = _ADDED.format(column="failures"), _ADDED.format(column="run_ms")

_ADD = text(
    f"""
    WITH minute AS (
        INSERT INTO model_minutes AS t (minute, model, runs, failures, run_ms)
        SELECT date_trunc('minute', now()), model, runs, CAST(failures AS jsonb), CAST(run_ms AS jsonb)
        FROM unnest(
            CAST(:minute_model AS text[]), CAST(:minute_runs AS bigint[]), CAST(:minute_failures AS text[]), CAST(:minute_run_ms AS text[])
        ) AS v(model, runs, failures, run_ms)
        ORDER BY model
        ON CONFLICT (minute, model) DO UPDATE SET runs = t.runs + excluded.runs, failures = {_FAILURES}, run_ms = {_RUN_MS}
    )
    INSERT INTO model_days AS t (day, model, tenant_id, runs, jobs, failures, run_ms, input_tokens, output_tokens, cost_usd)
    SELECT CAST(now() AT TIME ZONE 'UTC' AS date), model, tenant_id, runs, jobs, CAST(failures AS jsonb), CAST(run_ms AS jsonb),
        input_tokens, output_tokens, cost_usd
    FROM unnest(
        CAST(:model AS text[]), CAST(:tenant_id AS uuid[]), CAST(:runs AS bigint[]), CAST(:jobs AS bigint[]), CAST(:failures AS text[]),
        CAST(:run_ms AS text[]), CAST(:input_tokens AS bigint[]), CAST(:output_tokens AS bigint[]), CAST(:cost_usd AS numeric[])
    ) AS v(model, tenant_id, runs, jobs, failures, run_ms, input_tokens, output_tokens, cost_usd)
    ORDER BY tenant_id, model
    ON CONFLICT (tenant_id, model, day) DO UPDATE SET
        runs = t.runs + excluded.runs, jobs = t.jobs + excluded.jobs, failures = {_FAILURES}, run_ms = {_RUN_MS},
        input_tokens = t.input_tokens + excluded.input_tokens, output_tokens = t.output_tokens + excluded.output_tokens,
        cost_usd = t.cost_usd + excluded.cost_usd
    """  # noqa: S608 - made of constants
)

_LIVE = text("SELECT model, runs, failures, run_ms FROM model_minutes WHERE minute >= date_trunc('minute', now() - make_interval(secs => :window_s))")

_DAYS = text(
    """
    SELECT day, runs, jobs, failures, run_ms, input_tokens, output_tokens, cost_usd, scores, score_sum FROM model_days
    WHERE tenant_id = :tenant_id AND model = :model AND day > CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS int) ORDER BY day
    """
)

_FORGET_MINUTES = text("DELETE FROM model_minutes WHERE minute < now() - make_interval(secs => :kept_s) RETURNING model")

_FORGET_DAYS = text(
    """
    DELETE FROM model_days WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM model_days WHERE day < CAST(now() AT TIME ZONE 'UTC' AS date) - make_interval(secs => :kept_s) LIMIT :limit FOR UPDATE SKIP LOCKED
    )) RETURNING model
    """
)


@dataclass(frozen=True, slots=True)
class LiveStats:
    """How a model did lately, over all tenants.

    Attributes:
        runs: that ended, well or not.
        succeeded: those that ended well.
        failures: those that failed for the model's own reason; the others failed for their input's.
        error_rate: failures by runs, 0 to 1.
        p50_ms, p95_ms: how long successful runs took, batch mates included; None where there was none.
    """

    runs: int
    succeeded: int
    failures: int
    error_rate: float
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class ModelDay:
    """How a model did for one tenant on one day.

    Attributes:
        counts: of its runs.
        scores: how many outputs of that day have feedback.
        score_sum: of that feedback, 0 to 1 each.
    """

    counts: RunCounts
    scores: int
    score_sum: float


def add_counts(connection: Connection, *, counts: Mapping[tuple[UUID | None, str], RunCounts]) -> None:
    """Adds counts by tenant and model to the minute that it is, over all tenants, and to the day (UTC); those of no tenant to the minute alone.

    One statement: the row of a minute is shared by all who run the model, so it is locked for one round trip. Locks a row a model, then one a tenant and
    model, each in the order of its key.
    """
    minutes: dict[str, RunCounts] = {}
    for (_, model), counted in counts.items():
        minutes.setdefault(model, RunCounts()).add(counted)
    days = [(tenant_id, model, counted) for (tenant_id, model), counted in counts.items() if tenant_id is not None]
    rows = [counted for _, _, counted in days]
    connection.execute(
        _ADD,
        {
            **{f"minute_{name}": column for name, column in {"model": list(minutes), **_shared_columns(list(minutes.values()))}.items()},
            "model": [model for _, model, _ in days],
            "tenant_id": [str(tenant_id) for tenant_id, _, _ in days],
            "jobs": [row.jobs for row in rows],
            "input_tokens": [row.input_tokens for row in rows],
            "output_tokens": [row.output_tokens for row in rows],
            "cost_usd": [row.cost_usd for row in rows],
            **_shared_columns(rows),
        },
    )


def live_facts(connection: Connection, *, window_s: float = WINDOW_S) -> dict[str, LiveStats]:
    """How each model did in the last minutes; one that has not run is left out. Locks nothing; reads a row a model and minute by the primary key.

    What a worker counts is here at most a second later; the first minute of the window counts whole.
    """
    found: dict[str, RunCounts] = {}
    for row in connection.execute(_LIVE, {"window_s": window_s}):
        found.setdefault(row.model, RunCounts()).add(RunCounts(runs=row.runs, failures=Counter(row.failures), run_ms=_histogram(row)))
    return {model: _live(counts) for model, counts in found.items()}


def days_of(connection: Connection, *, tenant_id: UUID, model: str, days: int) -> dict[date, ModelDay]:
    """What a model did for a tenant, by day (UTC), the last ``days`` of them, today included; a day without any is left out. Uses the primary key."""
    return {
        row.day: ModelDay(
            RunCounts(
                runs=row.runs,
                jobs=row.jobs,
                failures=Counter(row.failures),
                run_ms=_histogram(row),
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                cost_usd=row.cost_usd,
            ),
            row.scores,
            row.score_sum,
        )
        for row in connection.execute(_DAYS, {"tenant_id": tenant_id, "model": model, "days": days})
    }


def forget_minutes(connection: Connection, *, kept_s: float) -> int:
    """Deletes minutes over ``kept_s`` old; returns how many rows. Locks them. Uses the primary key."""
    return len(connection.execute(_FORGET_MINUTES, {"kept_s": kept_s}).all())


def forget_days(connection: Connection, *, kept_s: float, limit: int) -> int:
    """Deletes days over ``kept_s`` old, at most ``limit`` rows; returns how many. Locks them. Uses ``model_days_by_age``."""
    return len(connection.execute(_FORGET_DAYS, {"kept_s": kept_s, "limit": limit}).all())


def _live(counts: RunCounts) -> LiveStats:
    failures = failures_of_the_model(counts.failures)
    return LiveStats(
        runs=counts.runs,
        succeeded=counts.runs - counts.failures.total(),
        failures=failures,
        error_rate=failures / counts.runs if counts.runs else 0.0,
        p50_ms=counts.quantile_ms(0.5),
        p95_ms=counts.quantile_ms(0.95),
    )


def _shared_columns(rows: Sequence[RunCounts]) -> dict[str, list[object]]:
    return {
        "runs": [row.runs for row in rows],
        "failures": [orjson.dumps(row.failures).decode() for row in rows],
        "run_ms": [orjson.dumps(row.run_ms, option=orjson.OPT_NON_STR_KEYS).decode() for row in rows],
    }


def _histogram(row: Row[tuple[object, ...]]) -> Counter[int]:
    return Counter({int(bucket): count for bucket, count in row.run_ms.items()})
