"""Feedback on jobs, the reports of models, and that routes learn from the one what the other shows."""

import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from api.facts_board import FactsBoard
from domain.catalogue import parse_catalogue
from domain.failures import Failure
from domain.ids import Prefix, encode
from domain.job import Status
from models.qualities import Qualities
from models.queries.feedback import NewFeedback, give_feedback, quality_by_model
from models.queries.finish import Ending
from models.transactions import make_engine, statement, unit_of_work
from tests.support.api import Api, Reply, make_api
from tests.support.jobs import claim, new_job, run_sql, submit, succeed
from workers.maintenance.pruner import Pruner
from workers.run_counter import RunCounter

SENTIMENT = {"label": "positive", "score": 0.9, "scores": {"positive": 0.9, "neutral": 0.1, "negative": 0.0}}
NEGATIVE = {"label": "negative", "score": 0.7, "scores": {"positive": 0.1, "neutral": 0.2, "negative": 0.7}}


DOCUMENT = tomllib.loads((Path(__file__).resolve().parents[2] / "catalogue.toml").read_text(encoding="utf-8"))
QUALITY = {"vader": 0.65, "minilm-l6-tone": 0.5}


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    models = {name: {**model, "quality": QUALITY[name]} if name in QUALITY else model for name, model in DOCUMENT["models"].items()}
    engine = make_engine(database_url, pool_size=8)
    yield make_api(engine, catalogue=parse_catalogue({**DOCUMENT, "models": models}))
    engine.dispose()


def done(api: Api, *, task: str = "text.sentiment", model: str = "vader", text: str = "lovely", output: Any = SENTIMENT) -> UUID:
    """A job of the caller that has succeeded."""
    given = orjson.dumps({"text": text}).decode()
    job = new_job(tenant_id=api.principal.tenant_id, key_id=api.principal.key_id, task=task, model=model, pool="text", input_json=given)
    (job_id,) = submit(api.engine, job)
    succeed(api.engine, claim(api.engine, job_id, model=model), orjson.dumps(output).decode())
    return job_id


def url(job_id: UUID) -> str:
    return f"/v1/jobs/{encode(Prefix.JOB, job_id)}/feedback"


def give(api: Api, job_id: UUID, **body: Any) -> Reply:
    return api.post(url(job_id), body)


def quality(api: Api, model: str = "vader", prior: float | None = 0.65) -> float | None:
    with statement(api.engine) as connection:
        return quality_by_model(connection, priors={model: prior}).get(model)


def report(api: Api, model: str = "vader", days: str = "?days=1") -> Any:
    return api.get(f"/v1/models/{model}/report{days}").json


def test_feedback_first_is_created_second_replaces_and_both_can_be_looked_at(api: Api) -> None:
    job_id = done(api)
    first = give(api, job_id, score=0.25, note="half of it is wrong")
    assert (first.status_code, first.headers["Location"]) == (201, first.json["urls"]["self"])
    assert {key: first.json[key] for key in ("model", "score", "score_source", "correct_output", "note")} == {
        "model": "vader", "score": 0.25, "score_source": "given", "correct_output": None, "note": "half of it is wrong",
    }  # fmt: skip
    assert api.get(url(job_id)).json == first.json
    second = give(api, job_id, score=1)
    assert (second.status_code, second.json["score"], second.json["note"]) == (200, 1.0, None)
    assert second.json["created_at"] == first.json["created_at"]
    assert report(api)["total"]["quality"] == {"mean_score": 1.0, "scores": 1}


@pytest.mark.parametrize(("correct", "score"), [(SENTIMENT, 1.0), (NEGATIVE, 0.0)], ids=["right", "wrong"])
def test_feedback_correct_output_scores_by_the_comparator_of_the_task(api: Api, correct: Any, score: float) -> None:
    job_id = done(api)
    given = give(api, job_id, correct_output=correct).json
    assert (given["score"], given["score_source"], given["correct_output"]) == (score, "compared", correct)
    assert give(api, job_id, correct_output=correct, score=0.5).json["score_source"] == "given"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/score", "required"),
        ({"note": "good"}, "/score", "required"),
        ({"score": None, "correct_output": None}, "/score", "required"),
        ({"score": 1.01}, "/score", "out_of_range"),
        ({"score": "1"}, "/score", "wrong_type"),
        ({"score": True}, "/score", "wrong_type"),
        ({"score": 1, "note": "x" * 2_001}, "/note", "too_long"),
        ({"score": 1, "stars": 5}, "/stars", "unknown_field"),
        ({"correct_output": {**SENTIMENT, "label": "splendid"}}, "/correct_output/label", "invalid_value"),
        ({"correct_output": "positive"}, "/correct_output", "wrong_type"),
    ],
)
def test_feedback_that_says_nothing_or_is_wrong_is_refused(api: Api, body: Any, pointer: str, code: str) -> None:
    answer = give(api, done(api), **body)
    assert (answer.status_code, [(error["pointer"], error["code"]) for error in answer.json["errors"]]) == (422, [(pointer, code)])


def test_feedback_on_an_answer_of_several_models_counts_for_the_one_whose_answer_was_taken(api: Api) -> None:
    job_id = done(api, model="consensus")
    found = {"model": "minilm-l6-tone", "dissents": [{"model": "vader", "output": {"text": "NUL: \x00"}}]}
    run_sql(
        api.engine, "INSERT INTO job_consensus (job_id, rule, report) VALUES (:id, '{}', CAST(:found AS json))", id=job_id, found=orjson.dumps(found).decode()
    )
    assert give(api, job_id, score=1).json["model"] == api.get(url(job_id)).json["model"] == "minilm-l6-tone"
    assert quality(api, "minilm-l6-tone", prior=None) == pytest.approx(11 / 21)


def test_feedback_on_what_cannot_be_compared_needs_a_score(api: Api) -> None:
    output = {"embeddings": [[1.0, 0.0]], "dimensions": 2}
    job_id = done(api, task="text.embedding", model="minilm-l6", output=output)
    run_sql(api.engine, """UPDATE job_inputs SET input = '{"texts": ["alone"]}'""")
    assert [error["pointer"] for error in give(api, job_id, correct_output=output).json["errors"]] == ["/score"]
    assert give(api, job_id, correct_output=output, score=0.5).status_code == 201
    large = done(api)
    run_sql(api.engine, "UPDATE job_outputs SET output = 'null', file_id = job_id WHERE job_id = :id", id=large)
    assert [error["pointer"] for error in give(api, large, correct_output=SENTIMENT).json["errors"]] == ["/score"]


def test_feedback_is_for_jobs_of_the_tenant_that_have_succeeded_and_are_kept(api: Api) -> None:
    job_id = done(api)
    assert api.get(url(job_id)).status_code == 404
    other = api.as_tenant("other")
    assert [(answer.status_code, answer.json["code"]) for answer in (give(other, job_id, score=1), other.get(url(job_id)))] == [(404, "not_found")] * 2
    (queued,) = submit(api.engine, new_job(tenant_id=api.principal.tenant_id))
    assert (give(api, queued, score=1).status_code, give(api, queued, score=1).json["code"]) == (409, "not_succeeded")
    assert give(api, job_id, score=0.5, correct_output=SENTIMENT, note="private").status_code == 201
    run_sql(api.engine, "UPDATE jobs SET expires_at = now() WHERE id = :id", id=job_id)
    Pruner(api.engine, every_s=60.0).run_once()
    assert [answer.status_code for answer in (give(api, job_id, score=1), api.get(url(job_id)))] == [410, 410]
    (kept,) = run_sql(api.engine, "SELECT score, correct_output, note FROM job_feedback")
    assert tuple(kept) == (0.5, None, None), "what it says of the content goes with the content"
    run_sql(api.engine, "UPDATE jobs SET erased_at = now() - interval '31 days' WHERE id = :id", id=job_id)
    Pruner(api.engine, every_s=60.0).run_once()
    assert run_sql(api.engine, "SELECT FROM job_feedback") == []
    assert report(api)["total"]["quality"] == {"mean_score": 0.5, "scores": 1}, "what it says of the model stays"


def test_feedback_given_by_many_at_once_counts_once(api: Api) -> None:
    job_id = done(api)

    def give_one(score: float) -> None:
        feedback = NewFeedback(job_id=job_id, tenant_id=api.principal.tenant_id, key_id=api.principal.key_id, score=score, compared=False)
        with unit_of_work(api.engine) as connection:
            give_feedback(connection, feedback=feedback)

    threads = [threading.Thread(target=give_one, args=(place / 10,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert report(api)["total"]["quality"] == {"mean_score": pytest.approx(api.get(url(job_id)).json["score"]), "scores": 1}


def test_quality_learns_from_all_tenants(api: Api) -> None:
    assert quality(api) is None
    for caller in (api, api.as_tenant("other")):
        for score in (0, 0, 0, 0.5):
            give(caller, done(caller), score=score)
    assert quality(api) == pytest.approx((20 * 0.65 + 1.0) / 28)
    assert quality(api, prior=None) == pytest.approx((20 * 0.5 + 1.0) / 28)
    run_sql(api.engine, "UPDATE model_days SET day = day - 91")
    assert quality(api) is None, "old scores are of an older model"


def test_best_turns_to_another_model_when_feedback_says_so(api: Api) -> None:
    board = FactsBoard(api.engine, api.catalogue, qualities=Qualities(api.engine, api.catalogue, every_s=0.0))

    def chosen() -> str:
        board.look()
        api.flags.facts.update({name: board.facts(name) for name in api.catalogue.models})
        job = api.post("/v1/jobs", {"task": "text.sentiment", "input": {"text": "fine"}, "route": {"policy": "best", "fallbacks": False}}).json
        return str(job["model"])

    assert chosen() == "vader"
    for _ in range(10):
        give(api, done(api), score=0)
    assert api.get("/v1/models/vader").json["quality"] == 0.65
    assert chosen() == "minilm-l6-tone", "of which nobody has said anything"
    assert api.get("/v1/models/vader").json["quality"] == pytest.approx(20 * 0.65 / 30, abs=1e-4)


def test_report_shows_what_the_model_did_for_the_caller_alone(api: Api) -> None:
    other = api.as_tenant("other")
    ours, theirs = api.principal.tenant_id, other.principal.tenant_id
    runs = RunCounter(api.engine)
    good = Ending(id=UUID(int=1), fence=1, status=Status.SUCCEEDED, input_tokens=7, output_tokens=2, cost_usd=Decimal("0.000003"))
    bad = Ending(id=UUID(int=2), fence=1, status=Status.FAILED, failure=Failure("run_timeout", "no", retryable=True))
    runs.count("vader", [(ours, good), (ours, bad), (theirs, bad)], run_ms=20.0)
    runs.flush()
    give(api, done(api), score=0.75)
    run_sql(api.engine, "INSERT INTO model_days SELECT day - 2, model, tenant_id, 5, 5, '{}', '{}', 0, 0, 0 FROM model_days WHERE tenant_id = :id", id=ours)
    shown = report(api, days="")
    today = datetime.now(UTC).date()
    assert [day["day"] for day in shown["days"]] == sorted([shown["days"][0]["day"], today.isoformat()])
    assert (shown["total"]["jobs"], shown["total"]["runs"]) == (7, 7)
    (figures,) = report(api)["days"]
    assert figures == {
        "day": today.isoformat(), "jobs": 2, "runs": 2, "errors": {"run_timeout": 1}, "input_tokens": 7, "output_tokens": 2, "cost_usd": "0.000003",
        "latency": {"samples": 1, "run_p50_ms": pytest.approx(20, rel=0.05), "run_p95_ms": pytest.approx(20, rel=0.05)},
        "quality": {"mean_score": 0.75, "scores": 1}, "shadow": None,
    }  # fmt: skip
    assert (report(other)["total"]["jobs"], report(other)["total"]["quality"]) == (1, None)
    assert report(api, model="echo") == {"object": "model_report", "model": "echo", "total": report(api, model="echo")["total"], "days": []}


def test_report_of_what_is_not_there_is_refused(api: Api) -> None:
    assert api.get("/v1/models/nope/report").json["code"] == "not_found"
    assert [api.get(f"/v1/models/vader/report?days={days}").json["code"] for days in ("0", "91", "x")] == ["invalid_filter"] * 3
