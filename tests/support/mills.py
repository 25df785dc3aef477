"""An API and a worker's child in the test's process, on one database: whole jobs without any process, step by step."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from domain.ids import Prefix, decode
from tests.support.api import Api, Reply
from tests.support.in_process import InProcessWorker


@dataclass
class Mill:
    """An API, and a worker that runs only what it is told to."""

    api: Api
    worker: InProcessWorker
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = self.api.engine

    def submit(self, *models: str, payload: Any = 1, path: str = "/v1/jobs", **fields: Any) -> Any:
        rule: dict[str, Any] = {"models": list(models)}
        rule |= {name: fields.pop(name) for name in ("min_agreement", "on_disagreement") if name in fields}
        answer = self.api.post(path, {"task": "debug.echo", "input": {"payload": payload}, "consensus": rule, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json

    def look(self, job: Any) -> Any:
        return self.api.get(f"/v1/jobs/{job['id']}").json

    def run_children(self, *jobs: Any) -> None:
        """Each child by its model."""
        for job in jobs:
            for child in job["children"]:
                self.worker.run(child["model"], id_of(child))

    def join(self, *jobs: Any) -> Any:
        """One dispatch of the join pool; the first job afterwards."""
        self.worker.run("consensus", *(id_of(job) for job in jobs))
        return self.look(jobs[0])

    def answered(self, *models: str, **fields: Any) -> Any:
        """A job whose children have run and that was joined."""
        job = self.submit(*models, **fields)
        self.run_children(job)
        return self.join(job)

    def resolve(self, job: Any, **said: Any) -> Reply:
        return self.api.post(f"/v1/reviews/{job['id']}", said)


def id_of(job: Any) -> UUID:
    found = decode(Prefix.JOB, job["id"])
    assert found is not None
    return found
