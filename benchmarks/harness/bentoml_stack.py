"""BentoML's tasks, as the harness sees them: measured where a Python has BentoML, which asks for too much to be among what this project installs."""

import json
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.harness.load import HOST, BenchmarkFailed, Connection, get, post
from benchmarks.harness.processes import Process
from benchmarks.harness.stacks import TEXT, Run, Stack

QUESTIONS = ("submit", "idle", "together", "memory")  # nothing can be drained: there is no queue
_LEFT = "SELECT count(*) FROM result WHERE status = 'in_progress'"


class BentoMl(Stack):
    """One service with one worker, as ``bentoml serve`` starts it; answers and results are in its SQLite file."""

    name = "bentoml"
    module = "benchmarks.peers.bentoml_service"
    accepted = 200
    python: str

    def __init__(self, database_url: str, broker_url: str) -> None:
        super().__init__(database_url, broker_url)
        self._folder = Path(tempfile.mkdtemp(prefix="millpond-bench-"))
        self._results = self._folder / "results.db"

    @property
    def submit(self) -> bytes:
        """As ``Stack``."""
        return post("/echo/submit", json.dumps({"payload": TEXT}).encode())

    def start_api(self) -> None:
        """The whole of it."""
        environment = {"BENTOML_HOME": str(self._folder), "BENTOML_RESULT_STORE": str(self._results), "BENTOML_DO_NOT_TRACK": "True"}
        arguments = ["bentoml", "serve", f"{self.module}:Echo", "--host", HOST, "--port", str(self.port), "--quiet"]
        self.processes["api"] = Process(f"{self.name} api", arguments, environment, python=self.python)
        self._wait_for_api()

    def start_workers(self) -> None:
        """It has none."""

    def time_one(self, connection: Connection) -> float:
        """Submits, and asks every 5 ms."""
        began = time.perf_counter()
        task = json.loads(connection.ask(self.submit).body)["task_id"]
        self._poll(connection, get(f"/echo/status?task_id={task}"), "completed")
        return time.perf_counter() - began

    def mark(self) -> str:
        """The time."""
        return str(time.time())

    def wait_until_published(self) -> None:
        """It publishes nothing."""

    def finished_since(self, mark: str, *, within_s: float, jobs: int) -> Run:
        """As ``Stack``; it began at the mark, since a job is under way as soon as it was taken."""
        give_up_at = time.monotonic() + within_s
        with closing(sqlite3.connect(self._results)) as results:
            while results.execute(_LEFT).fetchone()[0]:
                self.check()
                if time.monotonic() > give_up_at:
                    raise BenchmarkFailed(f"{self.name}: not finished after {within_s:g} s")
                time.sleep(0.02)
        return Run(jobs, float(mark), time.time())

    def stop(self) -> None:
        """As ``Stack``."""
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def bentoml_of(python: str) -> type[BentoMl] | None:
    """The stack, run by a Python; None where that one has no BentoML."""
    try:
        done = subprocess.run([python, "-c", "import bentoml"], capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else type("BentoMl", (BentoMl,), {"python": python})
