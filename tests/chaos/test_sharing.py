"""A backlog is shared: by workers that come one after the other, by fast and slow ones, by urgent and patient jobs."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.chaos.steps import echoes
from tests.support.jobs import run_sql
from tests.support.platform import Platform, check_invariants, echo_catalogue
from tests.support.rigs import Rig
from tests.support.waiting import wait_until

pytestmark = pytest.mark.chaos


def _settings() -> dict[str, object]:
    return {"lease_s": 60}  # standing still here is no fault


def test_two_workers_started_one_after_the_other_share_a_backlog(mill: Platform) -> None:
    ids = mill.give(*echoes(2_560, delay_ms=200))
    with mill.worker("first", concurrency=1, **_settings()) as first:
        mill.wait_running(ids, 1)
        first.freeze()  # with all that it could grab in its hands, until the other one is there
        with mill.worker("second", concurrency=1, **_settings()):
            first.thaw()
            mill.wait_final(ids, within_s=90.0)

    share = mill.workers_of(ids)["first"] / len(ids)
    assert 0.25 <= share <= 0.75, f"the first took {share:.0%}"
    check_invariants(mill.engine, ids)


def test_fast_and_slow_workers_share_by_speed(mill: Platform) -> None:
    slow_catalogue = mill.write_catalogue(echo_catalogue(backend="tests.support.echo_variants:SlowEcho"))
    ids = mill.give(*echoes(2_560, delay_ms=200))
    with mill.worker("slow", concurrency=1, catalogue=slow_catalogue, **_settings()) as slow:
        mill.wait_running(ids, 1)
        slow.freeze()
        with mill.worker("fast", concurrency=1, **_settings()):
            slow.thaw()
            mill.wait_final(ids, within_s=90.0)

    share = mill.workers_of(ids)["slow"] / len(ids)  # a quarter of the other's speed is a fifth of the work
    assert 0.08 <= share <= 0.4, f"the slow one took {share:.0%}"
    check_invariants(mill.engine, ids)


@pytest.mark.parametrize("servers", ["embedded", pytest.param("real", marks=pytest.mark.servers)])
def test_urgent_job_behind_a_backlog_of_flex_waits_only_for_what_runs(rigs: Callable[[str], Rig], servers: str, tmp_path: Path) -> None:
    rig, begun = rigs(servers), 0
    with rig.database() as database_url, rig.broker() as broker_url, Platform(tmp_path, database_url, broker_url) as mill, mill.worker(concurrency=1):
        flex = mill.give(*echoes(1_024, delay_ms=600), priority="flex", ids_per_message=16)  # as the API packs them: four messages a batch
        for number in range(3):
            mill.wait_running(flex, 64)
            urgent = mill.give({"payload": number}, priority="interactive")
            mill.wait_final(urgent)
            (job,) = mill.jobs(urgent)
            query = "SELECT count(*) AS n FROM jobs WHERE id = ANY (:ids) AND started_at BETWEEN :created_at AND :started_at"
            (before,) = run_sql(mill.engine, query, ids=flex, created_at=job.created_at, started_at=job.started_at)
            begun += before.n
        assert mill.statuses(flex)["queued"] > 0
    assert begun <= 128, f"{begun} flex jobs began before three urgent ones"  # two batches, where one ends while an urgent job is on its way to the broker


@pytest.mark.slow
def test_flex_does_not_starve_under_a_flood_of_urgent_jobs(mill: Platform) -> None:
    """Ageing: a flex job competes as if it had come 20 s later, so 20 s of a flood is the most that it waits for."""
    flood: list[UUID] = []
    with mill.worker("flooded", concurrency=1) as worker:
        flex = mill.give(*echoes(8, delay_ms=200), priority="flex")
        mill.wait_final(flex)
        flood += mill.give(*echoes(640, delay_ms=400), priority="interactive")
        mill.wait_running(flood, 1)
        flex = mill.give(*echoes(8), priority="flex")

        def flooded() -> bool:
            if mill.statuses(flood)["queued"] < 400:
                flood.extend(mill.give(*echoes(256, delay_ms=400), priority="interactive"))
            return mill.statuses(flex)["succeeded"] == len(flex)

        wait_until(flooded, 40.0, what="flex jobs to be done beside the flood", every_s=0.2)
        (waited,) = run_sql(mill.engine, "SELECT max(extract(epoch FROM started_at - created_at)) AS s FROM jobs WHERE id = ANY (:ids)", ids=list(flex))
        assert 10.0 < waited.s < 30.0
        assert mill.statuses(flood)["queued"] > 0
        worker.terminate()
    with mill.worker("cleaner"):
        mill.wait_final(flood, within_s=60.0)
    check_invariants(mill.engine, [*flex, *flood])
