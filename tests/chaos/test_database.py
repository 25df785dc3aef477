"""PostgreSQL crashes between claim and complete, and comes back."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from models.migrate import upgrade
from tests.chaos.own_servers import OwnPostgres
from tests.chaos.steps import accepted, echoes
from tests.support.platform import Api, Platform, check_invariants
from tests.support.rigs import Rig, rig_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos


@pytest.fixture
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnPostgres]:
    with OwnPostgres(tmp_path / "postgres", embedded=rig_of(request.node) == "embedded") as postgres:
        upgrade(postgres.url)
        yield postgres


@pytest.fixture
def mill(postgres: OwnPostgres, rig: Rig, tmp_path: Path) -> Iterator[Platform]:
    with rig.broker() as broker_url, Platform(tmp_path, postgres.url, broker_url) as platform, platform.maintenance():
        yield platform


@pytest.mark.parametrize("away_s", [2, pytest.param(45, marks=pytest.mark.slow)])
def test_postgres_crashed_between_claim_and_complete(mill: Platform, postgres: OwnPostgres, away_s: float) -> None:
    with mill.worker(), mill.api() as api:
        ids = mill.give(*echoes(20, delay_ms=2_000), ids_per_message=20)
        mill.wait_running(ids)
        postgres.crash()
        _refused_for(api, away_s)
        postgres.start()
        ids += wait_until(lambda: _accepted(api), 20.0, what="the API to accept again")
        mill.wait_final(ids, within_s=60.0)
    assert {job.status for job in mill.jobs(ids)} == {"succeeded"}
    assert {(job.failures, job.crashes) for job in mill.jobs(ids)} == {(0, 0)}
    check_invariants(mill.engine, ids)


def _refused_for(api: Api, seconds: float) -> None:
    """While it is away each submit is answered 503 at once, and says when to come again."""

    def refused() -> bool:
        answer = api.post({"payload": 1})
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
        assert answer.headers["Retry-After"]
        return False

    with pytest.raises(TimeoutError):
        wait_until(refused, seconds, every_s=0.2)


def _accepted(api: Api) -> list[UUID]:
    return accepted(api, 3) if api.client.get("/readyz").status_code == 200 else []
