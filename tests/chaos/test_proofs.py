"""With a safeguard taken out, the fault it is for is not survived: the tests of these faults can fail.

The bisecting's proof is in tests/unit/test_execution.py and tests/unit/test_settlement.py.
"""

import pytest

from tests.chaos.scenarios import api_killed_between_commit_and_publish, queue_purged, worker_killed_while_it_runs, zombie_wakes
from tests.chaos.steps import never_final
from tests.support.platform import Platform, check_invariants

pytestmark = pytest.mark.chaos


def test_without_relay_jobs_of_a_killed_api_wait_for_ever(bare: Platform) -> None:
    """Fails ``test_api_killed_between_commit_and_publish_its_jobs_are_relayed``."""
    ids = api_killed_between_commit_and_publish(bare)

    with bare.maintenance(without=["relay"]), bare.worker():
        never_final(bare, ids)
    assert bare.statuses(ids) == {"queued": len(ids)}


def test_without_reaper_jobs_of_a_killed_worker_run_for_ever(bare: Platform) -> None:
    """Fails ``test_worker_killed_its_jobs_are_reaped_and_finished_by_another``."""
    with bare.maintenance(without=["reaper"]):
        ids = worker_killed_while_it_runs(bare)
        with bare.worker("heir"):
            never_final(bare, ids)
    assert bare.statuses(ids) == {"running": len(ids)}


def test_without_sweep_jobs_of_a_purged_queue_wait_for_ever(bare: Platform) -> None:
    """Fails ``test_purged_queue_is_noticed_by_the_sweep``."""
    with bare.maintenance(without=["sweep"]):
        ids = queue_purged(bare)
        with bare.worker():
            never_final(bare, ids)
    assert bare.statuses(ids) == {"queued": len(ids)}


def test_without_fence_a_zombie_ends_what_another_runs(bare: Platform) -> None:
    """Fails ``test_zombie_that_wakes_is_refused``."""
    with bare.maintenance():
        ids = zombie_wakes(bare, backend="tests.support.echo_variants:UnfencedEcho")

    assert bare.jobs(ids)[0].status == "succeeded"
    with pytest.raises(AssertionError, match="fences"):
        check_invariants(bare.engine, ids)
