"""What is measured, as the harness sees it: a stack is started part by part, given jobs, and asked what became of them.

Both have the same: one API process under the same server, two worker children, the same model that does nothing. Millpond runs
its maintenance process beside them, as it does in production; the tutorial has nothing of the kind.
"""

import json
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Self

from benchmarks.harness.load import HOST, BenchmarkFailed, Connection, get, post, wait_for_port
from benchmarks.harness.processes import ROOT, Memory, Process
from benchmarks.harness.servers import Database, Servers
from models.identity import new_id
from models.migrate import upgrade

CHILDREN = 2
KEY = "benchmark-key-of-no-value"
TEXT = "A mill pond holds water back and feeds the wheels evenly, so that they turn by night as they do by day. " * 4 + "It is quiet work. " * 3
POLL_S = 0.005  # how often a client asks whether its job is done where it can only ask
ANSWER_WAIT_S = 10


@dataclass(frozen=True, slots=True)
class Run:
    """Jobs that were finished.

    Attributes:
        jobs: how many, all succeeded.
        began_at: when the first was started; seconds of the epoch.
        ended_at: when the last was finished.
    """

    jobs: int
    began_at: float
    ended_at: float

    @property
    def per_s(self) -> float:
        """From the first start to the last finish: the start-up of processes is not in it."""
        return self.jobs / (self.ended_at - self.began_at)


class Stack(ABC):
    """One system under test on servers of its own.

    Args:
        database_url: an empty database.
        broker_url: an empty virtual host.
    """

    name: str
    accepted = 202  # the status of an accepted job
    _finished: str  # SQL: whether all jobs are
    _succeeded: str  # SQL: how many since a mark, the first start, the last finish

    def __init__(self, database_url: str, broker_url: str) -> None:
        self.database_url = database_url
        self.broker_url = broker_url
        self.port = free_port()
        self.processes: dict[str, Process] = {}
        self.database = Database(database_url)

    @property
    @abstractmethod
    def submit(self) -> bytes:
        """The request that submits a job with an input of some 480 bytes."""

    @abstractmethod
    def start_api(self) -> None:
        """Starts what takes jobs; returns when it answers."""

    @abstractmethod
    def start_workers(self) -> None:
        """Starts what runs jobs; returns at once."""

    @abstractmethod
    def time_one(self, connection: Connection) -> float:
        """Submits one job and waits for its end, in the fastest way that this stack has; returns the seconds it took."""

    @abstractmethod
    def mark(self) -> str:
        """Remembers this moment: ``finished_since`` counts the jobs that are submitted from now on."""

    @abstractmethod
    def wait_until_published(self) -> None:
        """Waits until every job that was accepted is in the broker."""

    def finished_since(self, mark: str, *, within_s: float, jobs: int) -> Run:
        """Waits until nothing is left to do.

        Raises:
            BenchmarkFailed: it takes too long, or not every job succeeded.
        """
        self.database.wait_for(self._finished, within_s=within_s, alive=self.check)
        succeeded, began_at, ended_at = self.database.row(self._succeeded, {"mark": mark})
        if succeeded != jobs:
            raise BenchmarkFailed(f"{self.name}: {jobs} jobs were accepted, {succeeded} succeeded")
        return Run(jobs, float(began_at), float(ended_at))

    def check(self) -> None:
        """Makes sure that every process runs.

        Raises:
            BenchmarkFailed: one has ended.
        """
        for process in self.processes.values():
            process.check()

    def memory(self) -> dict[str, Memory]:
        """Of each part, its children included."""
        return {name: process.memory() for name, process in self.processes.items()}

    def stop_part(self, name: str) -> None:
        """Stops one part."""
        self.processes.pop(name).stop()

    def stop(self) -> None:
        """Stops everything."""
        with ExitStack() as stack:
            stack.callback(self.database.close)
            for process in self.processes.values():
                stack.callback(process.stop)
        self.processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> Process:
        process = self.processes[name] = Process(f"{self.name} {name}", arguments, environment)
        return process

    def _poll(self, connection: Connection, look: bytes, until: str) -> None:
        """Asks every 5 ms how a job stands, as its clients have to.

        Raises:
            BenchmarkFailed: it does not come to that for 10 s.
        """
        give_up_at = time.perf_counter() + ANSWER_WAIT_S
        while time.perf_counter() < give_up_at:
            time.sleep(POLL_S)
            if json.loads(connection.ask(look).body)["status"] == until:
                return
        raise BenchmarkFailed(f"{self.name}: a job took over {ANSWER_WAIT_S} s")

    def _wait_for_api(self) -> None:
        wait_for_port(self.port, alive=self.processes["api"].check)


class Millpond(Stack):
    """This project, by its own command line."""

    name = "millpond"
    _finished = "SELECT NOT EXISTS (SELECT FROM jobs WHERE status IN ('queued', 'running'))"
    _succeeded = (
        "SELECT count(*), extract(epoch FROM min(started_at)), extract(epoch FROM max(finished_at)) FROM jobs WHERE id >= %(mark)s AND status = 'succeeded'"
    )

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        *,
        task: str = "debug.echo",
        job_input: object = None,
        pool: str = "debug",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(database_url, broker_url)
        upgrade(database_url)
        self._pool = pool
        self.body = json.dumps({"task": task, "input": {"payload": TEXT} if job_input is None else job_input}).encode()
        self._environment = {
            "MILLPOND_DATABASE_URL": database_url,
            "MILLPOND_BROKER_URL": broker_url,
            "MILLPOND_HOST": HOST,
            "MILLPOND_PORT": str(self.port),
            "MILLPOND_BOOTSTRAP_KEY": KEY,
            "MILLPOND_LOG_LEVEL": "WARNING",
            **(settings or {}),
        }
        self._authorization = {"Authorization": f"Bearer {KEY}"}

    @property
    def submit(self) -> bytes:
        """As ``Stack``."""
        return post("/v1/jobs", self.body, self._authorization)

    def submit_and_wait(self, wait_s: int) -> bytes:
        """The same, held until the job is final."""
        return post("/v1/jobs", self.body, {**self._authorization, "Prefer": f"wait={wait_s}"})

    def start_api(self) -> None:
        """The API and maintenance."""
        self._start("api", ["cli.main", "api"], self._environment)
        self._start("maintenance", ["cli.main", "maintenance"], self._environment)
        self._wait_for_api()

    def start_workers(self) -> None:
        """One worker process with two children."""
        self.start_worker("worker", children=CHILDREN)

    def start_worker(self, name: str, *, children: int, pool: str | None = None) -> None:
        """A worker process of the pool, or of another one, known to the database by its name."""
        arguments = ["cli.main", "worker", "--pool", pool or self._pool, "--concurrency", str(children), "--name", name]
        self._start(name, arguments, self._environment)

    def time_one(self, connection: Connection) -> float:
        """One request, held until the job is final."""
        began = time.perf_counter()
        answer = connection.ask(self.submit_and_wait(ANSWER_WAIT_S))
        if answer.status != 200:
            raise BenchmarkFailed(f"{self.name}: a held submit answered {answer.status}: {answer.body[:300]!r}")
        return time.perf_counter() - began

    def mark(self) -> str:
        """Ids sort by creation."""
        return str(new_id())

    def wait_until_published(self) -> None:
        """Waits for the publisher's own note."""
        self.database.wait_for("SELECT NOT EXISTS (SELECT FROM jobs WHERE status = 'queued' AND published_at IS NULL)", within_s=60, alive=self.check)


class Tutorial(Stack):
    """The tutorial stack under the same server, with as many children."""

    name = "tutorial"
    module = "benchmarks.peers.tutorial_stack"
    _finished = "SELECT NOT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)"
    _succeeded = (
        "SELECT count(*), extract(epoch FROM min(started_at)), extract(epoch FROM max(finished_at)) "
        "FROM jobs WHERE created_at >= %(mark)s::timestamptz AND status = 'succeeded'"
    )

    def __init__(self, database_url: str, broker_url: str) -> None:
        super().__init__(database_url, broker_url)
        self._environment = {"DATABASE_URL": database_url, "BROKER_URL": broker_url}
        subprocess.run([sys.executable, "-m", self.module], cwd=ROOT, env=self._environment, check=True)

    @property
    def submit(self) -> bytes:
        """As ``Stack``."""
        return post("/v1/jobs", json.dumps({"task": "debug.echo", "input": {"payload": TEXT}}).encode())

    def start_api(self) -> None:
        """Granian, as Millpond has it; with no more threads than connections, which suits this stack best."""
        options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--workers", "1", "--blocking-threads", "16", "--backpressure", "1024", "--no-log"]
        self._start("api", ["granian", *options, "--host", HOST, "--port", str(self.port), f"{self.module}:app"], self._environment)
        self._wait_for_api()

    def start_workers(self) -> None:
        """Celery's prefork pool, two children."""
        quiet = ["-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._start(
            "worker", ["celery", "-A", f"{self.module}:celery", "worker", "-c", str(CHILDREN), "-P", "prefork", "-O", "fair", *quiet], self._environment
        )

    def time_one(self, connection: Connection) -> float:
        """Submits, and asks every 5 ms."""
        began = time.perf_counter()
        accepted = connection.ask(self.submit)
        self._poll(connection, get(f"/v1/jobs/{json.loads(accepted.body)['id']}"), "succeeded")
        return time.perf_counter() - began

    def mark(self) -> str:
        """The time."""
        return str(self.database.row("SELECT clock_timestamp()")[0])

    def wait_until_published(self) -> None:
        """It publishes before it answers."""


@contextmanager
def on_fresh_servers(servers: Servers, kind: type[Stack]) -> Iterator[Stack]:
    """A stack on an empty database and an empty virtual host, with its API started."""
    with servers.database(kind.name) as database_url, servers.vhost() as broker_url, kind(database_url, broker_url) as stack:
        stack.start_api()
        yield stack


def free_port() -> int:
    """A port that nothing listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
