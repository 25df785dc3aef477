"""A platform of real processes on servers of a test's own: API, workers and maintenance, started, broken and ended by pid."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
import psutil
from sqlalchemy import Engine

from broker.sender import Sender, pack
from domain.catalogue import QueueName
from domain.job import FINAL, Priority
from models.transactions import DatabaseAway, make_engine
from tests.support.jobs import new_job, run_sql, submit
from tests.support.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
KEY = "chaos-suite-key-0123456789"
IDS_PER_MESSAGE = 8

# Short, so that what is lost comes back in seconds.
QUICK: Mapping[str, str] = {
    "MILLPOND_LEASE_S": "3",
    "MILLPOND_LEASE_RENEW_S": "0.5",
    "MILLPOND_LEASE_GRACE_S": "0.5",
    "MILLPOND_REAP_EVERY_S": "0.3",
    "MILLPOND_RELAY_EVERY_S": "0.1",
    "MILLPOND_SWEEP_EVERY_S": "0.5",
    "MILLPOND_CANCEL_KILL_S": "1",
    "MILLPOND_DRAIN_S": "10",
    "MILLPOND_BOOTSTRAP_KEY": KEY,
}

_CATALOGUE = """
[pools.debug]
concurrency = {concurrency}
batches_per_child = {batches_per_child}
[tasks."debug.echo"]
contract = "domain.task_types.debug_echo"
default_model = "echo"
[models.echo]
task = "debug.echo"
pool = "debug"
backend = "{backend}"
version = "1"
max_batch_size = {max_batch_size}
options = {options}
"""


def echo_catalogue(
    *, concurrency: int = 2, batches_per_child: int = 10_000, max_batch_size: int = 64, backend: str = "workers.backends.echo:Echo", options: str = "{}"
) -> str:
    """A catalogue with the echo alone, as TOML."""
    return _CATALOGUE.format(concurrency=concurrency, batches_per_child=batches_per_child, max_batch_size=max_batch_size, backend=backend, options=options)


class Running:
    """One process of the platform, its children and its log."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path, name: str = "", tree: Path = PROJECT) -> None:
        self.name = name
        self.log = log
        self._log_from = log.stat().st_size if log.exists() else 0  # a process of the same name may have written before
        with log.open("ab") as stream:
            # a session of its own: a signal to the test's terminal does not reach it, and its children are found by it
            self._popen = subprocess.Popen(
                command, cwd=tree, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        self.process = psutil.Process(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    @property
    def children(self) -> list[psutil.Process]:
        """Its child processes that run or sleep, the newest last."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = [child for child in self.process.children(recursive=True) if _works(child)]
            return sorted(found, key=lambda child: child.create_time())
        return []

    def send(self, number: int) -> None:
        """Sends a signal to the process itself, not to its children."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, to the process itself alone."""
        self.send(signal.SIGKILL)
        self.wait_gone()

    def terminate(self, within_s: float = 15.0) -> int:
        """SIGTERM; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait_gone(within_s)

    def wait_gone(self, within_s: float = 15.0) -> int:
        """Waits for its end.

        Raises:
            TimeoutError: it lives on.
        """
        try:
            return self._popen.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.name} ran on for {within_s} s; its log ends with\n{self.last_words()}") from error

    def freeze(self) -> None:
        """SIGSTOP to the process and its children: a host that stands still."""
        for process in [self.process, *self.children]:
            process.suspend()

    def thaw(self) -> None:
        """SIGCONT to all of them."""
        for process in [self.process, *self.process.children(recursive=True)]:
            process.resume()

    def said(self, words: str) -> int:
        """How many lines of its log have these words."""
        return self._words().count(words)

    def last_words(self, lines: int = 25) -> str:
        return "\n".join(self._words().splitlines()[-lines:])

    def _words(self) -> str:
        return self.log.read_bytes()[self._log_from :].decode(errors="replace")

    def end(self) -> None:
        """SIGKILL to it and all its children; the process itself first, or it would replace them."""
        with contextlib.suppress(psutil.NoSuchProcess):
            doomed = [self.process, *self.process.children(recursive=True)]
            for process in doomed:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started in between
        self._popen.wait()


def _works(process: psutil.Process) -> bool:
    """Whether it is one of the pool's children: spawn's trackers are there only to clean up."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.status() != psutil.STATUS_ZOMBIE and "_tracker" not in " ".join(process.cmdline())
    return False


@dataclass
class Platform:
    """Processes on one database and one broker, and a way to give them work without an API.

    Attributes:
        folder: logs and catalogues.
        environment: of every process, on top of ``QUICK``.
        pool: of its workers.
        tree: the code that runs.
    """

    folder: Path
    database_url: str
    broker_url: str
    environment: dict[str, str] = field(default_factory=dict)
    running: list[Running] = field(default_factory=list)
    pool: str = "debug"
    tree: Path = PROJECT

    def __post_init__(self) -> None:
        self.engine: Engine = make_engine(self.database_url, pool_size=4, application_name="millpond test")
        self.catalogue = self.write_catalogue(echo_catalogue())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.running:
            process.end()
        self.engine.dispose()

    # --- processes

    def write_catalogue(self, text: str) -> Path:
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix="catalogue-", suffix=".toml", delete=False) as file:
            file.write(text)
        return Path(file.name)

    def start(self, *arguments: str, name: str, module: str = "cli.main", settings: Mapping[str, object] = MappingProxyType({})) -> Running:
        """Starts ``python -m cli.main …`` with the platform's settings; ``settings`` win, written in lower case without prefix."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MILLPOND_")},
            **QUICK,
            "MILLPOND_DATABASE_URL": self.database_url,
            "MILLPOND_BROKER_URL": self.broker_url,
            "MILLPOND_CATALOGUE": str(self.catalogue),
            "MILLPOND_STATE_DIR": str(self.folder / "state"),
            **self.environment,
            **{f"MILLPOND_{key.upper()}": str(value) for key, value in settings.items()},
        }
        started = Running([sys.executable, "-m", module, *arguments], environment=environment, log=self.folder / f"{name}.log", name=name, tree=self.tree)
        self.running.append(started)
        return started

    def start_worker(self, name: str = "w", *, concurrency: int = 2, **settings: object) -> Running:
        """Starts a worker and returns at once."""
        return self.start("worker", "--pool", self.pool, "--concurrency", str(concurrency), "--name", name, name=name, settings=settings)

    @contextlib.contextmanager
    def worker(self, name: str = "w", *, concurrency: int = 2, **settings: object) -> Iterator[Running]:
        """A worker that is ready; ended at the end, whatever became of it."""
        started = self.start_worker(name, concurrency=concurrency, **settings)
        try:
            self.wait_ready(started)
            yield started
        finally:
            started.end()

    def wait_ready(self, worker: Running, within_s: float = 60.0) -> None:
        """Waits until a worker consumes."""

        def ready() -> bool:
            if worker.exit_code is not None:
                raise RuntimeError(f"{worker.name} ended with {worker.exit_code}:\n{worker.last_words()}")
            return worker.said("worker ready") > 0

        wait_until(ready, within_s, what=f"{worker.name} to be ready")

    @contextlib.contextmanager
    def maintenance(self, name: str = "maintenance", *, without: Sequence[str] = (), **settings: object) -> Iterator[Running]:
        """Maintenance with a sweep that loses patience sooner than the real one; ``without`` leaves duties out."""
        started = self.start(*without, module="tests.support.quick_maintenance", name=name, settings=settings)
        try:
            yield started
        finally:
            started.end()

    @contextlib.contextmanager
    def api(self, name: str = "api", **settings: object) -> Iterator["Api"]:
        """The API on a free port, once it answers."""
        port = free_port()
        started = self.start("api", name=name, settings={"port": port, "api_threads": 16, **settings})
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=15.0)
        try:
            wait_until(lambda: started.exit_code is not None or _answers(client), 20.0, what="the API to answer")
            if started.exit_code is not None:
                raise RuntimeError(f"the API ended with {started.exit_code}:\n{started.last_words()}")
            yield Api(started, client)
        finally:
            client.close()
            started.end()

    # --- work

    def submit(self, *inputs: Mapping[str, Any], **fields: Any) -> list[UUID]:
        """Writes accepted jobs; nothing is published."""
        return submit(self.engine, *(new_job(**{"input_json": json.dumps(value), "timeout_s": 30.0, **fields}) for value in inputs))

    def publish(self, ids: Sequence[UUID], *, priority: str = "standard", ids_per_message: int = IDS_PER_MESSAGE, times: int = 1) -> None:
        """Sends messages about jobs, and notes it as the API's publisher does."""
        for _ in range(times):
            rows = ((QueueName("debug", Priority(priority)), "echo", False, job_id) for job_id in ids)
            with Sender(self.broker_url) as sender:
                for queue, message in pack(rows, ids_per_message={"echo": ids_per_message}):
                    sender.send(queue, message)
        run_sql(self.engine, "UPDATE jobs SET published_at = now(), publications = 1 WHERE id = ANY (:ids) AND published_at IS NULL", ids=list(ids))

    def give(self, *inputs: Mapping[str, Any], ids_per_message: int = IDS_PER_MESSAGE, **fields: Any) -> list[UUID]:
        """Submits and publishes."""
        ids = self.submit(*inputs, **fields)
        self.publish(ids, priority=fields.get("priority", "standard"), ids_per_message=ids_per_message)
        return ids

    # --- what is seen

    def jobs(self, ids: Sequence[UUID]) -> list[Any]:
        """The jobs' rows, in the order of the ids."""
        found = {row.id: row for row in run_sql(self.engine, "SELECT * FROM jobs WHERE id = ANY (:ids)", ids=list(ids))}
        return [found[job_id] for job_id in ids]

    def statuses(self, ids: Sequence[UUID]) -> Counter[str]:
        """How many jobs have each status."""
        rows = run_sql(self.engine, "SELECT status, count(*) AS n FROM jobs WHERE id = ANY (:ids) GROUP BY 1", ids=list(ids))
        return Counter({row.status: row.n for row in rows})

    def outcomes(self, job_id: UUID) -> list[str]:
        """How a job's attempts ended, the first one first."""
        return [row.outcome for row in run_sql(self.engine, "SELECT outcome FROM job_attempts WHERE job_id = :id ORDER BY attempt", id=job_id)]

    def workers_of(self, ids: Sequence[UUID]) -> Counter[str]:
        """How many of the jobs each worker finished."""
        query = "SELECT split_part(worker, ':', 1) AS name, count(*) AS n FROM job_attempts WHERE job_id = ANY (:ids) AND outcome = 'succeeded' GROUP BY 1"
        return Counter({row.name: row.n for row in run_sql(self.engine, query, ids=list(ids))})

    def wait_running(self, ids: Sequence[UUID], count: int | None = None, within_s: float = 60.0) -> None:
        """Waits until so many of the jobs, all of them unless told otherwise, run. That they begin at once is not shown by it: the machine may be busy."""
        wanted = len(ids) if count is None else count
        wait_until(lambda: self.statuses(ids)["running"] >= wanted, within_s, what=f"{wanted} jobs to run")

    def wait_final(self, ids: Sequence[UUID], within_s: float = 30.0) -> Counter[str]:
        """Waits until all jobs are final, through outages of the database too.

        Raises:
            TimeoutError: with the statuses, and the ends of all logs.
        """
        seen: Counter[str] = Counter()

        def final() -> bool:
            nonlocal seen
            with contextlib.suppress(DatabaseAway):
                seen = self.statuses(ids)
            return sum(seen[status] for status in FINAL) == len(ids)

        try:
            wait_until(final, within_s, every_s=0.05)
        except TimeoutError as error:
            logs = "\n".join(f"--- {process.name}\n{process.last_words()}" for process in self.running)
            raise TimeoutError(f"not final after {within_s} s: {dict(seen)}\n{logs}") from error
        return seen


@dataclass(frozen=True)
class Api:
    """An API process and a client of it."""

    process: Running
    client: httpx.Client

    def post(self, value: Mapping[str, Any], **fields: Any) -> httpx.Response:
        """Submits an echo."""
        return self.client.post("/v1/jobs", json={"task": "debug.echo", "input": value, **fields})


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_invariants(engine: Engine, ids: Sequence[UUID]) -> None:
    """What must hold of accepted jobs at the end, whatever happened to them on the way.

    Every one is final; a succeeded one has one output, under the job's fence, equal to its payload, and no other has any; attempts are
    numbered without gaps under rising fences, and only the last one may have ended the job; events are numbered without gaps, tell
    of legal steps, and exactly one, the last, is final.
    """
    values = {"ids": list(ids)}
    jobs = {row.id: row for row in run_sql(engine, "SELECT * FROM jobs WHERE id = ANY (:ids)", **values)}
    assert set(jobs) == set(ids), "an accepted job has no row"
    live = {str(job.id): job.status for job in jobs.values() if job.status not in FINAL}
    assert not live, f"accepted and not final: {live}"
    outputs = run_sql(engine, "SELECT o.*, i.input FROM job_outputs o JOIN job_inputs i USING (job_id) WHERE job_id = ANY (:ids)", **values)
    assert sorted(row.job_id for row in outputs) == sorted(job.id for job in jobs.values() if job.status == "succeeded")
    for row in outputs:
        assert row.fence == jobs[row.job_id].fence, f"{row.job_id}: written under fence {row.fence}, the job has {jobs[row.job_id].fence}"
        assert row.output["payload"] == row.input["payload"], f"{row.job_id}: the result is another job's"
    attempts = _by_job(run_sql(engine, "SELECT * FROM job_attempts WHERE job_id = ANY (:ids) ORDER BY attempt", **values))
    events = _by_job(run_sql(engine, "SELECT * FROM job_events WHERE job_id = ANY (:ids) ORDER BY seq", **values))
    for job in jobs.values():
        _check_attempts(job, attempts.get(job.id, []))
        _check_events(job, events.get(job.id, []))


def _by_job(rows: Sequence[Any]) -> dict[UUID, list[Any]]:
    grouped: dict[UUID, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.job_id, []).append(row)
    return grouped


def _check_attempts(job: Any, attempts: Sequence[Any]) -> None:
    assert [attempt.attempt for attempt in attempts] == list(range(1, job.attempt + 1)), f"{job.id}: attempts {[a.attempt for a in attempts]}"
    fences = [attempt.fence for attempt in attempts]
    assert fences == sorted(set(fences)), f"{job.id}: fences {fences}"
    assert all(attempt.outcome in {"failed", "lost", "released"} for attempt in attempts[:-1]), f"{job.id}: {[a.outcome for a in attempts]}"
    if job.status == "succeeded":
        assert attempts[-1].outcome == "succeeded"
    assert job.failures <= job.max_attempts


_NEXT = {"queued": {"running"} | FINAL, "running": {"queued"} | FINAL}


def _check_events(job: Any, events: Sequence[Any]) -> None:
    assert [event.seq for event in events] == list(range(1, job.event_seq + 1)), f"{job.id}: events {[event.seq for event in events]}"
    statuses = [event.status for event in events if event.type == "status"]
    assert statuses[0] == "queued", f"{job.id}: {statuses}"
    assert all(after in _NEXT.get(before, ()) for before, after in pairwise(statuses)), f"{job.id}: {statuses}"
    assert statuses[-1] == job.status
