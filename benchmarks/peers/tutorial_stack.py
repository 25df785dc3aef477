"""The stack that tutorials teach: Flask, an SQLAlchemy session, `task.delay`, one Celery task a message.

It is what most teams write first, with the settings that a careful one adds: `acks_late` so that a killed worker loses nothing,
publisher confirms, no results kept in Celery, no events. What it lacks is not held against it here, only its speed is compared:
a crash between commit and `delay` loses the job, and nothing stops a second worker from writing over a result.

    python -m benchmarks.peers.tutorial_stack               makes the tables
    granian --interface wsgi benchmarks.peers.tutorial_stack:app
    celery -A benchmarks.peers.tutorial_stack worker
"""

import os
import uuid
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from flask import Flask, Response, jsonify, request
from sqlalchemy import JSON, DateTime, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://"), pool_size=10)

celery = Celery("tutorial", broker=os.environ["BROKER_URL"])
celery.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue="tutorial",
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    broker_transport_options={"confirm_publish": True},
)

app = Flask(__name__)


class Base(DeclarativeBase):
    """Base of the records."""


class Job(Base):
    """One job; the two times of the run are what the benchmark reads."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    status: Mapped[str]
    input: Mapped[Any] = mapped_column(JSON)
    result: Mapped[Any | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@celery.task
def run(job_id: str) -> None:
    """Runs one job with a model that does nothing."""
    with Session(engine) as session:
        job = session.get(Job, job_id)
        job.status = "running"
        job.started_at = datetime.now(UTC)
        session.commit()
        job.result = {"echo": job.input}
        job.status = "succeeded"
        job.finished_at = datetime.now(UTC)
        session.commit()


@app.post("/v1/jobs")
def submit() -> tuple[Response, int]:
    """Stores a job and sends its task."""
    job_id = str(uuid.uuid4())
    with Session(engine) as session:
        session.add(Job(id=job_id, status="queued", input=request.get_json(), created_at=datetime.now(UTC)))
        session.commit()
    run.delay(job_id)
    return jsonify(id=job_id, status="queued"), 202


@app.get("/v1/jobs/<job_id>")
def get(job_id: str) -> Response:
    """One job as it stands."""
    with Session(engine) as session:
        job = session.get(Job, job_id)
        return jsonify(id=job.id, status=job.status, result=job.result)


if __name__ == "__main__":
    Base.metadata.create_all(engine)
