import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from domain.delivery import Again, Delivered, Failed, Limits
from models.identity import new_id
from models.queries.deliveries import ClaimedDelivery, claim_deliveries, give_back, reap_deliveries, record_tries, renew_deliveries, unhint
from models.queries.delivery_history import (
    DeliveryFilters,
    WebhookState,
    delivery_state_of_jobs,
    get_delivery,
    list_deliveries,
    redeliver,
    redeliver_range,
    tries_of,
)
from models.queries.endpoints import change_endpoint, delete_endpoint, origin_id
from models.queries.submit import JobWebhook
from models.transactions import statement, unit_of_work
from tests.support.deliveries import deliveries, end_jobs, endpoint, fail_once, hints, record, take, tried
from tests.support.jobs import TENANT, claim, new_job, run_sql, submit, succeed
from tests.support.waiting import wait_until

HOOK = JobWebhook(url="https://example.com/mine?x=1", origin="https://example.com:443")


def one(engine: Engine, delivery_id: UUID) -> Any:
    return run_sql(engine, "SELECT * FROM webhook_deliveries WHERE id = :id", id=delivery_id)[0]


def lapse(engine: Engine) -> None:
    run_sql(engine, "UPDATE webhook_deliveries SET lease_expires_at = now() - interval '1 minute' WHERE state = 'sending'")


def make_due(engine: Engine) -> None:
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() WHERE state = 'pending'")


def reap(engine: Engine, *, limit: int = 100) -> int:
    with statement(engine) as connection:
        return len(reap_deliveries(connection, grace_s=1.0, limit=limit))


def test_delivery_id_sorts_by_the_time_of_its_event(engine: Engine) -> None:
    endpoint(engine)
    end_jobs(engine, 3)
    for row in deliveries(engine):
        assert str(row.id)[:23] == str(row.event_id)[:23]
        assert row.id.version == 7
        assert row.id != row.event_id


def test_claim_takes_the_longest_due_first_and_no_more_than_one_of_a_new_endpoint(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 3)
    newest = deliveries(engine)[-1].id
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() - interval '1 hour' WHERE id = :id", id=newest)
    claimed = take(engine, target)
    assert [delivery.id for delivery in claimed.deliveries] == [newest]
    assert not claimed.refused
    (delivery,) = claimed.deliveries
    assert (delivery.fence, delivery.tries, delivery.schedule_step, delivery.body, delivery.endpoint_kind) == (1, 0, 0, None, "registered")
    row = one(engine, newest)
    assert (row.state, row.lease_owner, row.fence) == ("sending", "s:1", 1)


def test_claim_of_a_good_endpoint_takes_sixteen(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    end_jobs(engine, 20)
    assert len(take(engine, target).deliveries) == 16
    assert len(take(engine, target, owner="s:2").deliveries) == 4


@pytest.mark.parametrize(("standing", "sessions"), [("new", 1), ("good", 4), ("failing", 1)])
def test_claim_over_the_endpoints_limit_is_refused_and_keeps_the_hint(engine: Engine, standing: str, sessions: int) -> None:
    target = endpoint(engine, standing=standing)
    end_jobs(engine, 10)
    assert len(hints(engine)) == 1
    limits = Limits(many=1)
    for number in range(sessions):
        assert take(engine, target, owner=f"s:{number}", limits=limits).deliveries
    refused = take(engine, target, owner="s:late", limits=limits)
    assert (refused.deliveries, refused.refused) == ([], True)
    assert hints(engine) == [], "not at once"
    assert len(hints(engine, again_after_s=9.0)) == 1, "but within a second, not after ten"
    assert take(engine, target, owner="s:0", limits=limits).deliveries  # its own do not count against it


def test_claim_over_the_tenants_limit_is_refused_for_that_tenant_alone(engine: Engine) -> None:
    other = new_id()
    targets = [endpoint(engine) for _ in range(3)]
    foreign = endpoint(engine, tenant_id=other)
    end_jobs(engine, 2)
    end_jobs(engine, 1, tenant_id=other)
    limits = Limits(tenant=2)
    assert [take(engine, target, owner=f"s:{number}", limits=limits).refused for number, target in enumerate(targets)] == [False, False, True]
    assert take(engine, foreign, owner="s:9", limits=limits).deliveries


def test_claim_when_nothing_is_due_clears_the_hint(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    assert [due.endpoint_id for due in hints(engine)] == [target]
    assert hints(engine) == []
    (delivery,) = take(engine, target).deliveries
    record(engine, tried(delivery))
    assert run_sql(engine, "SELECT hinted_at FROM webhook_endpoints")[0].hinted_at is not None
    assert take(engine, target).deliveries == []
    assert run_sql(engine, "SELECT hinted_at FROM webhook_endpoints")[0].hinted_at is None


def test_claim_of_a_disabled_or_unknown_endpoint_takes_nothing(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    run_sql(engine, "UPDATE webhook_endpoints SET enabled = false, disabled_reason = 'x'")
    assert take(engine, target).deliveries == []
    assert take(engine, new_id()).deliveries == []


def test_claims_at_once_never_exceed_the_limits_nor_share_a_delivery(engine: Engine) -> None:
    """Twelve sessions of four endpoints claim at the same moment, eight times over; each time all hold what they got until it has been counted."""
    targets = [endpoint(engine, standing="good") for _ in range(4)]
    end_jobs(engine, 60)
    limits = Limits(good=2, tenant=5, many=4)
    gate = threading.Barrier(12)

    def send(number: int) -> list[list[ClaimedDelivery]]:
        rounds = []
        for _ in range(8):
            gate.wait(20)
            claimed = take(engine, targets[number % 4], owner=f"s:{number}", limits=limits).deliveries
            rounds.append(claimed)
            gate.wait(20)
            record(engine, *(tried(delivery) for delivery in claimed), owner=f"s:{number}")
        return rounds

    with ThreadPoolExecutor(12) as pool:
        by_session = list(pool.map(send, range(12)))
    for claims in zip(*by_session, strict=True):
        sending = [claimed[0].endpoint_id for claimed in claims if claimed]
        assert len(sending) == limits.tenant  # there is always enough to send
        assert max(sending.count(target) for target in targets) <= limits.good
    taken = [delivery.id for rounds in by_session for claimed in rounds for delivery in claimed]
    assert len(set(taken)) == len(taken) > 100


def test_claims_of_one_endpoint_at_the_same_moment_only_one_gets_it(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 8)
    gate = threading.Barrier(8)

    def claim_at_once(number: int) -> int:
        gate.wait(10)
        return len(take(engine, target, owner=f"s:{number}").deliveries)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim_at_once, range(8))) == [0] * 7 + [1]


def test_record_of_a_success_ends_the_delivery_and_makes_the_endpoint_good(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    (delivery,) = take(engine, target).deliveries
    attempt = tried(delivery)
    assert record(engine, attempt) == {delivery.id}
    assert record(engine, attempt) == set()  # not knowing whether a commit happened, one may run it again
    with statement(engine) as connection:
        view = get_delivery(connection, tenant_id=TENANT, delivery_id=delivery.id)
        tries = tries_of(connection, delivery_id=delivery.id)
    assert view is not None
    assert (view.state, view.tries, view.status_code, view.error, view.next_try_at) == ("delivered", 1, 200, None, None)
    assert view.finished_at is not None
    assert [(each.number, each.status_code, each.error, each.answer, each.duration_ms) for each in tries] == [(1, 200, None, "ok", 12.5)]
    assert run_sql(engine, "SELECT standing FROM webhook_endpoints")[0].standing == "good"


def test_record_of_a_failure_waits_its_delay_and_steps_on(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    failed = fail_once(engine, target, delay_s=300.0)
    row = deliveries(engine)[0]
    assert (row.state, row.tries, row.schedule_step, row.error, row.status_code, row.lease_owner) == ("pending", 1, 1, "http_status", 500, None)
    assert 295 < (row.available_at - run_sql(engine, "SELECT now() AS now")[0].now).total_seconds() <= 300
    assert take(engine, target).deliveries == []
    make_due(engine)
    (delivery,) = take(engine, target).deliveries
    assert (delivery.id, delivery.tries, delivery.schedule_step, delivery.fence) == (failed, 1, 1, 2)
    record(engine, tried(delivery, Failed()))
    row = deliveries(engine)[0]
    assert (row.state, row.tries, row.error, row.schedule_step) == ("failed", 2, "http_status", 1)
    with statement(engine) as connection:
        assert [each.number for each in tries_of(connection, delivery_id=failed)] == [1, 2]


def test_record_after_it_was_taken_away_is_refused_by_the_fence(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    (late,) = take(engine, target, owner="dead:1").deliveries
    lapse(engine)
    assert reap(engine) == 1
    (owner,) = take(engine, target, owner="dead:1").deliveries  # the very same owner: it is the fence that tells them apart
    assert record(engine, tried(late), owner="dead:1") == set()
    assert deliveries(engine)[0].state == "sending"
    assert record(engine, tried(owner), owner="dead:1") == {owner.id}
    with statement(engine) as connection:
        assert [(each.number, each.error) for each in tries_of(connection, delivery_id=owner.id)] == [(1, "sender_lost"), (2, None)]


def test_record_by_another_owner_is_refused(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    (delivery,) = take(engine, target).deliveries
    assert record(engine, tried(delivery), owner="s:2") == set()
    assert run_sql(engine, "SELECT * FROM webhook_tries") == []


def test_standing_follows_successes_and_failures(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)

    def health() -> tuple[str, int, bool]:
        row = run_sql(engine, "SELECT standing, failures, failing_since FROM webhook_endpoints")[0]
        return row.standing, row.failures, row.failing_since is not None

    seen = [health()]
    for _ in range(3):
        fail_once(engine, target)
        seen.append(health())
    assert seen == [("new", 0, False), ("new", 1, True), ("new", 2, True), ("failing", 3, True)]
    since = run_sql(engine, "SELECT failing_since FROM webhook_endpoints")[0]
    fail_once(engine, target)
    assert run_sql(engine, "SELECT failing_since FROM webhook_endpoints")[0] == since
    record(engine, tried(take(engine, target).deliveries[0]))
    assert health() == ("good", 0, False)


def test_standing_after_successes_and_one_failure_in_one_record_counts_from_the_failure(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    run_sql(engine, "UPDATE webhook_endpoints SET failures = 2, failing_since = now() - interval '1 day'")
    end_jobs(engine, 3)
    first, second, third = take(engine, target).deliveries
    record(engine, tried(first), tried(second), tried(third, Again(5.0)))
    row = run_sql(engine, "SELECT standing, failures, failing_since > now() - interval '1 minute' AS recent FROM webhook_endpoints")[0]
    assert (row.standing, row.failures, row.recent) == ("good", 1, True)


def test_record_that_disables_fails_what_is_pending_and_tells_the_others(engine: Engine) -> None:
    target, other, picky, off = endpoint(engine), endpoint(engine), endpoint(engine, events=("job.failed",)), endpoint(engine, enabled=False)
    end_jobs(engine, 3)
    (delivery,) = take(engine, target).deliveries
    record(engine, tried(delivery, Failed(), status_code=410, error="gone", disables="gone"))
    row = run_sql(engine, "SELECT enabled, disabled_reason FROM webhook_endpoints WHERE id = :id", id=target)[0]
    assert (row.enabled, row.disabled_reason) == (False, "gone")
    assert sorted(row.error for row in deliveries(engine, target)) == ["endpoint_disabled", "endpoint_disabled", "gone"]
    (event,) = run_sql(engine, "SELECT * FROM events WHERE type = 'endpoint.disabled'")
    assert (event.endpoint_id, event.tenant_id) == (target, TENANT)
    told = run_sql(engine, "SELECT endpoint_id FROM webhook_deliveries WHERE event_id = :id", id=event.id)
    assert [row.endpoint_id for row in told] == [other]
    assert picky != off


def test_failing_for_120_hours_disables_at_the_next_failure_and_not_before(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    fail_once(engine, target)
    run_sql(engine, "UPDATE webhook_endpoints SET failing_since = now() - interval '119 hours'")
    fail_once(engine, target)
    assert run_sql(engine, "SELECT enabled FROM webhook_endpoints")[0].enabled
    run_sql(engine, "UPDATE webhook_endpoints SET failing_since = now() - interval '121 hours'")
    fail_once(engine, target)
    row = run_sql(engine, "SELECT enabled, disabled_reason FROM webhook_endpoints")[0]
    assert (row.enabled, row.disabled_reason) == (False, "failing")
    assert [(row.state, row.error) for row in deliveries(engine, target)] == [("failed", "endpoint_disabled")]
    assert [row.type for row in run_sql(engine, "SELECT type FROM events ORDER BY id")] == ["job.succeeded", "endpoint.disabled"]


def test_success_after_120_hours_of_failures_keeps_it_enabled(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    run_sql(engine, "UPDATE webhook_endpoints SET failures = 9, failing_since = now() - interval '121 hours'")
    end_jobs(engine, 2)
    first, second = take(engine, target).deliveries
    record(engine, tried(first), tried(second, Again(5.0)))
    assert run_sql(engine, "SELECT enabled FROM webhook_endpoints")[0].enabled


def test_origin_is_never_disabled(engine: Engine) -> None:
    submitted = submit(engine, new_job(webhook=HOOK))
    succeed(engine, claim(engine, *submitted))
    origin = origin_id(TENANT, HOOK.origin)
    run_sql(engine, "UPDATE webhook_endpoints SET failures = 9, failing_since = now() - interval '121 hours'")
    (delivery,) = take(engine, origin).deliveries
    assert (delivery.endpoint_kind, delivery.url) == ("origin", HOOK.url)
    record(engine, tried(delivery, Failed(), error="gone", disables="gone"))
    assert run_sql(engine, "SELECT enabled FROM webhook_endpoints")[0].enabled
    assert run_sql(engine, "SELECT * FROM events WHERE type = 'endpoint.disabled'") == []


@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_record_of_a_failure_after_the_endpoint_went_is_the_last(engine: Engine, how: str) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    (delivery,) = take(engine, target).deliveries
    with unit_of_work(engine) as connection:
        if how == "disabled":
            change_endpoint(connection, tenant_id=TENANT, endpoint_id=target, changes={"enabled": False})
        else:
            delete_endpoint(connection, tenant_id=TENANT, endpoint_id=target)
    assert deliveries(engine)[0].state == "sending"
    assert record(engine, tried(delivery, Again(5.0))) == {delivery.id}
    row = deliveries(engine)[0]
    assert (row.state, row.error, row.tries) == ("failed", f"endpoint_{how}", 1)


def test_give_back_bumps_the_fence_and_spends_nothing(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    end_jobs(engine, 2)
    claimed = take(engine, target).deliveries
    with unit_of_work(engine) as connection:
        give_back(connection, deliveries=claimed[1:])
    first, second = deliveries(engine)
    assert (first.state, second.state, second.fence, second.tries, second.lease_owner) == ("sending", "pending", 2, 0, None)
    assert record(engine, tried(claimed[1])) == set()
    assert [delivery.id for delivery in take(engine, target).deliveries] == [second.id]


def test_renew_keeps_what_is_held_and_says_what_is_not(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    end_jobs(engine, 2)
    claimed = take(engine, target).deliveries
    with unit_of_work(engine) as connection:
        give_back(connection, deliveries=claimed[:1])
        assert renew_deliveries(connection, owner="s:1", lease_s=90.0) == {claimed[1].id}
        assert renew_deliveries(connection, owner="s:2", lease_s=90.0) == set()
    row = run_sql(engine, "SELECT lease_expires_at - now() AS left FROM webhook_deliveries WHERE state = 'sending'")[0]
    assert row.left > timedelta(seconds=80)
    assert reap(engine) == 0


def test_reap_makes_lapsed_deliveries_due_at_the_same_step(engine: Engine) -> None:
    target = endpoint(engine, standing="good")
    end_jobs(engine, 3)
    take(engine, target)
    assert reap(engine) == 0
    lapse(engine)
    assert (reap(engine, limit=2), reap(engine, limit=2), reap(engine)) == (2, 1, 0)
    assert {(row.state, row.tries, row.schedule_step, row.fence, row.error) for row in deliveries(engine)} == {("pending", 1, 0, 2, "sender_lost")}
    assert len(take(engine, target).deliveries) == 3


def test_hints_are_one_an_endpoint_and_up_to_four_where_much_is_due(engine: Engine) -> None:
    good, new, failing = endpoint(engine, standing="good"), endpoint(engine), endpoint(engine, standing="failing")
    end_jobs(engine, 40)
    assert {due.endpoint_id: (due.standing, due.hints) for due in hints(engine)} == {good: ("good", 3), new: ("new", 1), failing: ("failing", 1)}
    assert hints(engine) == []
    end_jobs(engine, 60)
    assert {due.hints for due in hints(engine, again_after_s=0.0) if due.endpoint_id == good} == {4}


def test_hints_of_what_is_not_due_yet_are_none(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 2)
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() + interval '1 hour'")
    assert hints(engine) == []
    first = deliveries(engine)[0].id
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() WHERE id = :id", id=first)
    assert [due.endpoint_id for due in hints(engine)] == [target]


def test_hint_lost_is_given_again_after_a_while_and_unhinted_at_once(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    assert len(hints(engine)) == 1
    run_sql(engine, "UPDATE webhook_endpoints SET hinted_at = now() - interval '11 seconds'")
    assert len(hints(engine)) == 1
    assert hints(engine) == []
    with unit_of_work(engine) as connection:
        unhint(connection, endpoint_ids=[target])
    assert len(hints(engine)) == 1


def test_hints_by_many_relays_at_once_are_given_once(engine: Engine) -> None:
    targets = {endpoint(engine) for _ in range(12)}
    end_jobs(engine, 1)
    with ThreadPoolExecutor(6) as pool:
        found = [due.endpoint_id for part in pool.map(lambda _: hints(engine, limit=4), range(12)) for due in part]
    found += [due.endpoint_id for due in hints(engine)]
    assert sorted(found) == sorted(targets)


def test_hints_give_up_what_was_written_for_an_endpoint_that_is_gone_or_off(engine: Engine) -> None:
    gone, off, on = endpoint(engine), endpoint(engine), endpoint(engine)
    end_jobs(engine, 2)
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() + interval '1 hour'")
    run_sql(engine, "DELETE FROM webhook_endpoints WHERE id = :id", id=gone)
    run_sql(engine, "UPDATE webhook_endpoints SET enabled = false, disabled_reason = 'x' WHERE id = :id", id=off)
    assert hints(engine) == []
    assert {(row.state, row.error) for row in deliveries(engine, gone)} == {("failed", "endpoint_deleted")}
    assert {(row.state, row.error) for row in deliveries(engine, off)} == {("failed", "endpoint_disabled")}
    assert {row.state for row in deliveries(engine, on)} == {"pending"}


def test_redeliver_begins_anew_under_the_same_event(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    (delivery,) = take(engine, target).deliveries
    record(engine, tried(delivery))
    with unit_of_work(engine) as connection:
        view = redeliver(connection, tenant_id=TENANT, delivery_id=delivery.id)
        assert redeliver(connection, tenant_id=new_id(), delivery_id=delivery.id) is None
    assert view is not None
    assert (view.state, view.finished_at, view.event_id, view.tries) == ("pending", None, delivery.event_id, 1)
    (again,) = take(engine, target).deliveries
    assert (again.event_id, again.schedule_step, again.tries) == (delivery.event_id, 0, 1)
    with unit_of_work(engine) as connection:
        view = redeliver(connection, tenant_id=TENANT, delivery_id=delivery.id)
    assert view is not None
    assert view.state == "sending"
    assert record(engine, tried(again)) == {delivery.id}


def test_redeliver_to_a_disabled_endpoint_changes_nothing(engine: Engine) -> None:
    target = endpoint(engine)
    end_jobs(engine, 1)
    with unit_of_work(engine) as connection:
        change_endpoint(connection, tenant_id=TENANT, endpoint_id=target, changes={"enabled": False})
    with unit_of_work(engine) as connection:
        view = redeliver(connection, tenant_id=TENANT, delivery_id=deliveries(engine)[0].id)
        assert redeliver_range(connection, tenant_id=TENANT, limit=10) == 0
    assert view is not None
    assert view.state == "failed"
    assert [(row.state, row.error) for row in deliveries(engine)] == [("failed", "endpoint_disabled")]


def test_redeliver_range_takes_what_the_filters_say_the_oldest_first(engine: Engine) -> None:
    target, other = endpoint(engine, standing="good"), endpoint(engine, standing="good")
    end_jobs(engine, 6)
    for owner, to in (("s:1", target), ("s:2", other)):
        claimed = take(engine, to, owner=owner).deliveries
        record(engine, *(tried(delivery, Failed() if number % 2 else Delivered()) for number, delivery in enumerate(claimed)), owner=owner)
    moment = run_sql(engine, "SELECT now() AS now")[0].now
    with unit_of_work(engine) as connection:
        assert redeliver_range(connection, tenant_id=new_id(), limit=10) == 0
        assert redeliver_range(connection, tenant_id=TENANT, created_after=moment, limit=10) == 0
        assert redeliver_range(connection, tenant_id=TENANT, endpoint_id=target, state="failed", created_before=moment, limit=2) == 2
    assert [row.state for row in deliveries(engine, target)] == ["delivered", "pending", "delivered", "pending", "delivered", "failed"]
    with unit_of_work(engine) as connection:
        assert redeliver_range(connection, tenant_id=TENANT, limit=100) == 10
    assert {row.state for row in deliveries(engine)} == {"pending"}


def test_list_is_narrowed_and_paged_the_newest_first(engine: Engine) -> None:
    target, other = endpoint(engine), endpoint(engine)
    jobs = end_jobs(engine, 4)
    newest_first = [row.id for row in deliveries(engine)][::-1]
    fail_once(engine, target, delay_s=60.0)

    def listed(after: UUID | None = None, limit: int = 100, **filters: object) -> list[UUID]:
        with statement(engine) as connection:
            rows = list_deliveries(connection, tenant_id=TENANT, filters=DeliveryFilters(**filters), after=after, limit=limit)  # type: ignore[arg-type]
        return [row.id for row in rows]

    assert listed() == newest_first
    assert listed(limit=3) + listed(after=newest_first[2]) == newest_first
    assert len(listed(endpoint_id=other)) == 4
    assert len(listed(job_id=jobs[0])) == 2
    assert len(listed(state="sending")) == 0
    assert len(listed(type="job.succeeded")) == 8
    assert listed(type="job.failed") == []
    row = deliveries(engine)[0]
    assert len(listed(event_id=row.event_id)) == 2
    assert listed(created_after=row.created_at) == newest_first
    assert listed(created_before=row.created_at) == []
    with statement(engine) as connection:
        assert list_deliveries(connection, tenant_id=new_id(), filters=DeliveryFilters(), limit=10) == []


def test_state_of_a_jobs_own_webhook_follows_its_newest_delivery(engine: Engine) -> None:
    endpoint(engine)  # a tenant's endpoint gets the same events; the job's state does not speak of it
    plain, hooked, picky = submit(
        engine, new_job(), new_job(webhook=HOOK), new_job(webhook=JobWebhook(url=HOOK.url, origin=HOOK.origin, events=("job.failed",)))
    )

    def states() -> dict[UUID, WebhookState]:
        with statement(engine) as connection:
            return delivery_state_of_jobs(connection, job_ids=[plain, hooked, picky])

    assert states() == {hooked: WebhookState("waiting", 0, None), picky: WebhookState("waiting", 0, None)}
    succeed(engine, claim(engine, plain, hooked, picky))
    found = states()
    assert (found[hooked].state, found[hooked].tries) == ("pending", 0)
    assert found[hooked].next_try_at is not None
    assert found[picky] == WebhookState("unwanted", 0, None)
    record(engine, tried(take(engine, origin_id(TENANT, HOOK.origin)).deliveries[0]))
    assert states()[hooked] == WebhookState("delivered", 1, None)


@pytest.mark.parametrize("broken", ["state = 'sending'", "state = 'delivered'", "state = 'lost'", "finished_at = now()", "lease_expires_at = now()"])
def test_impossible_deliveries_are_refused_by_constraints(engine: Engine, broken: str) -> None:
    endpoint(engine)
    end_jobs(engine, 1)
    with pytest.raises(IntegrityError):
        run_sql(engine, f"UPDATE webhook_deliveries SET {broken}")


def test_record_and_claim_in_one_transaction_of_many_sessions_do_not_deadlock(engine: Engine) -> None:
    """Sessions of one endpoint and of its neighbours record and claim at once while the owner switches endpoints off and on."""
    targets = [endpoint(engine, standing="good") for _ in range(3)]
    end_jobs(engine, 50)
    stop = threading.Event()

    def send(number: int) -> int:
        owner, done, mine = f"s:{number}", 0, take(engine, targets[number % 3], owner=f"s:{number}", limits=Limits(many=3)).deliveries
        while mine:
            results = [tried(delivery, Again(0.0) if (number + done) % 5 == 0 else Delivered()) for delivery in mine]
            with unit_of_work(engine) as connection:
                done += len(record_tries(connection, owner=owner, tries=results))
                mine = claim_deliveries(connection, endpoint_id=targets[number % 3], owner=owner, lease_s=45.0, limits=Limits(many=3)).deliveries
            if done > 40:
                break
        return done

    def switch() -> int:
        turns = 0
        while not stop.is_set():
            with unit_of_work(engine) as connection:
                change_endpoint(connection, tenant_id=TENANT, endpoint_id=targets[0], changes={"enabled": turns % 2 == 1})
            hints(engine, again_after_s=0.0)
            turns += 1
        return turns

    with ThreadPoolExecutor(8) as pool:
        switching = pool.submit(switch)
        done = [pool.submit(send, number) for number in range(6)]
        wait_until(lambda: all(each.done() for each in done), deadline_s=60.0)
        stop.set()
        assert switching.result() > 0
        assert sum(each.result() for each in done) > 0
