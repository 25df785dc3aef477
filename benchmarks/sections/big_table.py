"""A million finished jobs in the table: are submit and drain as fast as on an empty one?"""

from collections.abc import Callable
from uuid import UUID

from benchmarks.harness.report import Finding, median, spread
from benchmarks.harness.servers import Database, Servers
from benchmarks.harness.stacks import Millpond
from benchmarks.sections.peers import DRAIN_WITHIN_S, submit_at_full_speed, warm_up
from models.migrate import upgrade

FINISHED = 1_000_000
FLOOR = 0.8
SUBMIT_S = 8.0

# Ids of the shape that the API makes (UUIDv7), spread over the last four days, a tenth of them of another tenant.
_FILL = (
    """
    CREATE TEMPORARY TABLE old ON COMMIT PRESERVE ROWS AS
    SELECT n, at, CAST(lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')
                       || '8' || substr(md5(CAST(n AS text)), 1, 15) AS uuid) AS id
    FROM (SELECT n, now() - interval '4 days' + n * interval '0.3 s' AS at FROM generate_series(1, %(jobs)s) AS n) AS times
    """,
    """
    INSERT INTO jobs (id, tenant_id, key_id, fence, created_at, available_at, deadline_at, published_at, started_at, attempt_started_at, finished_at,
                      expires_at, queue_ms, run_ms, timeout_s, retention_s, attempt, max_attempts, event_seq, publications, task, model, pool, priority,
                      status, lease_owner, cost_usd)
    SELECT id, CASE WHEN n %% 10 = 0 THEN %(other)s::uuid ELSE %(tenant)s::uuid END, %(tenant)s::uuid, 1, at, at, at + interval '1 day', at, at, at,
           at + interval '10 ms', at + interval '7 days', 4, 6, 60, 604800, 1, 3, 3, 1, 'debug.echo', 'echo', 'debug', 'standard', 'succeeded', 'old:1', 0
    FROM old
    """,
    """INSERT INTO job_inputs (job_id, input) SELECT id, '{"payload": "a small input of a job that is long done"}' FROM old""",
    """INSERT INTO job_outputs (job_id, fence, output) SELECT id, 1, '{"payload": "a small input of a job that is long done"}' FROM old""",
    """
    INSERT INTO job_attempts (id, job_id, attempt, fence, started_at, ended_at, model, worker, outcome)
    SELECT gen_random_uuid(), id, 1, 1, at, at + interval '10 ms', 'echo', 'old:1', 'succeeded' FROM old
    """,
    """
    INSERT INTO job_events (job_id, seq, attempt, created_at, type, status)
    SELECT id, seq, least(seq - 1, 1), at, 'status', (ARRAY['queued', 'running', 'succeeded'])[seq] FROM old, generate_series(1, 3) AS seq
    """,
    "DROP TABLE old",
)


def measure(servers: Servers, *, pairs: int, say: Callable[[str], None], jobs: int = FINISHED) -> list[Finding]:
    """Submit and drain on an empty table and on a full one, turn and turn about."""
    submit: dict[str, list[float]] = {"empty": [], "full": []}
    drain: dict[str, list[float]] = {"empty": [], "full": []}
    with servers.database("empty") as empty_url, servers.database("full") as full_url:
        for url in (empty_url, full_url):
            upgrade(url)
        with Database(full_url) as database:
            _fill(database, jobs, say)
        for pair in range(pairs):
            for name, url in (("empty", empty_url), ("full", full_url)):
                with servers.vhost() as broker_url, Millpond(url, broker_url) as stack:
                    stack.start_api()
                    warm_up(stack)
                    mark = stack.mark()
                    per_s, accepted = submit_at_full_speed(stack, for_s=SUBMIT_S)
                    stack.wait_until_published()
                    stack.database.vacuum()
                    stack.start_workers()
                    submit[name].append(per_s)
                    drain[name].append(stack.finished_since(mark, within_s=DRAIN_WITHIN_S, jobs=accepted).per_s)
                    stack.database.vacuum()
                say(f"  {pair + 1}. {name} table: submit/s {submit[name][-1]:,.0f}, drain/s {drain[name][-1]:,.0f}")
    return [_finding(f"submit/s, {jobs:,} finished jobs", submit), _finding(f"drain/s, {jobs:,} finished jobs", drain)]


def _fill(database: Database, jobs: int, say: Callable[[str], None]) -> None:
    values = {"jobs": jobs, "tenant": str(UUID(int=7)), "other": str(UUID(int=8))}
    for statement in _FILL:
        database.execute(statement, values)
    database.vacuum()
    size = database.row("SELECT pg_size_pretty(pg_database_size(current_database()))")[0]
    say(f"  filled {jobs:,} jobs with inputs, outputs, attempts and events: {size}")


def _finding(what: str, figures: dict[str, list[float]]) -> Finding:
    ratio = median(figures["full"]) / median(figures["empty"])
    return Finding(what, spread(figures["full"]), spread(figures["empty"]), f"{ratio:.2f}×", f"≥ {FLOOR:g}×", ratio >= FLOOR)
