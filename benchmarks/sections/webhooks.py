"""Webhooks: how many a second, against a bare loop of the same HTTP client; and a receiver that works, beside a thousand that are dead."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

import httpcore
from sqlalchemy import Engine

from benchmarks.harness.load import BenchmarkFailed, percentile, wait_for_port
from benchmarks.harness.processes import ROOT, Process, let_settle
from benchmarks.harness.report import Finding, at_least, median, spread
from benchmarks.harness.servers import Database, Servers
from benchmarks.harness.stacks import free_port
from domain.delivery import Limits
from domain.job import Status
from models.identity import new_id
from models.migrate import upgrade
from models.queries.claim import claim_jobs
from models.queries.endpoints import create_endpoint
from models.queries.finish import Ending, finish_jobs
from models.queries.secrets import add_secret
from models.queries.submit import NewJob, submit_jobs
from models.sealing import Sealer, make_sealing_key, new_secret
from models.transactions import make_engine, statement, unit_of_work

JOBS = 10_000
LEAST = 0.5
THREADS = Limits().good  # that may send to one endpoint at once; the bare loop has as many
DEAD = 1_000
LIVE_EVENTS = 40  # one at a time, over twenty seconds
LIVE_EVERY_S = 0.5
MOST_P99_S = 5.0
TENANT = UUID(int=1)
_CHUNK = 500


def measure(servers: Servers, *, pairs: int, say: Callable[[str], None]) -> list[Finding]:
    """Both questions; the first turn and turn about with the bare loop."""
    ours, bare = [], []
    for pair in range(pairs):
        with _Senders.on(servers) as senders:
            ours.append(_deliveries_per_s(senders))
            body_bytes = int(senders.database.row("SELECT avg(length(body)) FROM events")[0])
            let_settle()
            bare.append(_bare_per_s(senders, body_bytes))
        say(f"  {pair + 1}. deliveries/s {ours[-1]:,.0f}, bare loop {bare[-1]:,.0f} (bodies of {body_bytes} bytes)")
    ratio, bar, kept = at_least(median(ours) / median(bare), LEAST)
    with _Senders.on(servers) as senders:
        latencies_s = _beside_the_dead(senders)
    p50_s, p99_s = percentile(latencies_s, 0.5), percentile(latencies_s, 0.99)
    say(f"  beside {DEAD:,} dead endpoints: p50 {p50_s:.2f} s, p99 {p99_s:.2f} s of {len(latencies_s)} events")
    return [
        Finding(f"deliveries/s of {JOBS:,} finished jobs, one endpoint", spread(ours), spread(bare), ratio, bar, kept),
        Finding(f"p99 of an endpoint beside {DEAD:,} dead ones", f"{p99_s:.2f} s", "", "", f"≤ {MOST_P99_S:g} s", p99_s <= MOST_P99_S),
    ]


class _Senders:
    """A database, a broker, and what sends webhooks between them."""

    def __init__(self, database_url: str, broker_url: str, stack: ExitStack) -> None:
        upgrade(database_url)
        key = make_sealing_key()
        self._stack = stack
        self._sealer = Sealer([key])
        self._environment = {
            "MILLPOND_DATABASE_URL": database_url,
            "MILLPOND_BROKER_URL": broker_url,
            "MILLPOND_SECRET_KEYS": key,
            "MILLPOND_WEBHOOK_ALLOW_PRIVATE": "true",
            "MILLPOND_LOG_LEVEL": "WARNING",
        }
        self.processes: list[Process] = []
        self.database = stack.enter_context(Database(database_url))
        self.engine: Engine = make_engine(database_url, pool_size=2, application_name="millpond benchmark")
        stack.callback(self.engine.dispose)

    @classmethod
    @contextmanager
    def on(cls, servers: Servers) -> Iterator["_Senders"]:
        """On an empty database and an empty virtual host."""
        with servers.database("webhooks") as database_url, servers.vhost() as broker_url, ExitStack() as stack:
            yield cls(database_url, broker_url, stack)

    def start(self) -> None:
        """Maintenance and one process of senders."""
        for name in ("maintenance", "webhooks"):
            self.processes.append(self._stack.enter_context(Process(f"millpond {name}", ["cli.main", name], self._environment)))

    def receiver(self, *options: str) -> int:
        """The port of a receiver."""
        port = free_port()
        process = self._stack.enter_context(Process("receiver", ["benchmarks.harness.receiver", str(port), *options], {}))
        wait_for_port(port, alive=process.check)
        self.processes.append(process)
        return port

    def endpoint(self, url: str) -> UUID:
        """A registered endpoint with a secret."""
        endpoint_id = new_id()
        sealed = self._sealer.seal(new_secret())
        with unit_of_work(self.engine) as connection:
            create_endpoint(connection, endpoint_id=endpoint_id, tenant_id=TENANT, url=url, description="", events=None, enabled=True)
            add_secret(
                connection, secret_id=new_id(), tenant_id=TENANT, endpoint_id=endpoint_id, sealed=sealed.sealed, sealing_key=sealed.key_id, overlap_s=86_400.0
            )
        return endpoint_id

    def finish_jobs(self, count: int) -> None:
        """Jobs that are submitted, claimed and succeed, as the API and a worker would have it; each makes an event."""
        for start in range(0, count, _CHUNK):
            jobs = [_new_job() for _ in range(min(_CHUNK, count - start))]
            with statement(self.engine) as connection:
                submit_jobs(connection, jobs=jobs)
            with statement(self.engine) as connection:
                claimed = claim_jobs(connection, ids=[job.id for job in jobs], model="echo", owner="bench:1", lease_s=30.0, solo=False)
            with statement(self.engine) as connection:
                finish_jobs(connection, endings=[Ending(id=job.id, fence=job.fence, status=Status.SUCCEEDED, output_json='{"payload": 1}') for job in claimed])

    def check(self) -> None:
        """Makes sure that every process runs."""
        for process in self.processes:
            process.check()


def _deliveries_per_s(senders: _Senders) -> float:
    """From the first try to the last record of ten thousand, the endpoint known to work."""
    port = senders.receiver()
    endpoint_id = senders.endpoint(f"http://127.0.0.1:{port}/hook")
    senders.start()
    senders.finish_jobs(1)
    senders.database.wait_for("SELECT EXISTS (SELECT FROM webhook_endpoints WHERE standing = 'good')", within_s=30, alive=senders.check)
    senders.database.execute("UPDATE webhook_endpoints SET hinted_at = now() + interval '1 h'")  # nobody begins before all are there
    senders.finish_jobs(JOBS)
    senders.database.vacuum()
    began = time.time()
    senders.database.execute("UPDATE webhook_endpoints SET hinted_at = NULL")
    senders.database.wait_for("SELECT NOT EXISTS (SELECT FROM webhook_deliveries WHERE state IN ('pending', 'sending'))", within_s=180, alive=senders.check)
    delivered, ended_at = senders.database.row(
        "SELECT count(*), extract(epoch FROM max(finished_at)) FROM webhook_deliveries WHERE state = 'delivered' AND endpoint_id = %(id)s",
        {"id": str(endpoint_id)},
    )
    seen = int(httpcore.request("GET", f"http://127.0.0.1:{port}/").content)
    if delivered != JOBS + 1 or seen != JOBS + 1:
        raise BenchmarkFailed(f"{JOBS + 1} events, {delivered} delivered, {seen} received")
    return JOBS / (float(ended_at) - began)


def _bare_per_s(senders: _Senders, body_bytes: int) -> float:
    port = senders.receiver()
    arguments = [sys.executable, "-m", "benchmarks.peers.bare_sender", f"http://127.0.0.1:{port}/hook", str(THREADS), str(JOBS), str(body_bytes)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"the bare loop: {done.stderr.strip()}")
    return float(done.stdout)


def _beside_the_dead(senders: _Senders) -> list[float]:
    """Seconds from event to answer at an endpoint that works, while a thousand of the same tenant get the same events and never answer."""
    dead, live = senders.receiver("hang"), senders.receiver()
    working = senders.endpoint(f"http://127.0.0.1:{live}/hook")
    senders.start()
    senders.finish_jobs(1)
    senders.database.wait_for("SELECT EXISTS (SELECT FROM webhook_endpoints WHERE standing = 'good')", within_s=30, alive=senders.check)
    for number in range(DEAD):
        senders.endpoint(f"http://127.0.0.1:{dead}/{number}")
    senders.database.execute("UPDATE webhook_endpoints SET standing = 'failing', failures = 3 WHERE id <> %(id)s AND random() < 0.5", {"id": str(working)})
    since = new_id()
    for _ in range(LIVE_EVENTS):
        senders.finish_jobs(1)
        time.sleep(LIVE_EVERY_S)
    mine = f"FROM webhook_deliveries WHERE endpoint_id = '{working}' AND id > '{since}'"
    senders.database.wait_for(f"SELECT count(*) = {LIVE_EVENTS} {mine} AND state = 'delivered'", within_s=60, alive=senders.check)
    if not senders.database.row("SELECT EXISTS (SELECT FROM webhook_deliveries WHERE state = 'sending')")[0]:
        raise BenchmarkFailed("nobody sends to the dead endpoints")
    return [float(late_s) for (late_s,) in senders.database.rows(f"SELECT extract(epoch FROM finished_at - created_at) {mine}")]


def _new_job() -> NewJob:
    return NewJob(
        id=new_id(),
        tenant_id=TENANT,
        key_id=UUID(int=2),
        task="debug.echo",
        model="echo",
        pool="debug",
        priority="standard",
        max_attempts=3,
        timeout_s=10.0,
        deadline_s=3_600.0,
        retention_s=3_600.0,
        input_json='{"payload": 1}',
    )
