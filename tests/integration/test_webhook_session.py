"""Sessions of sending: real receivers, a real database, no broker."""

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from standardwebhooks import Webhook

from domain.delivery import Limits
from domain.ids import Prefix, decode, encode
from models.queries.endpoints import change_endpoint, delete_endpoint
from models.sealing import Sealer, UnknownSealingKey, make_sealing_key
from models.transactions import unit_of_work
from tests.support.deliveries import deliveries, end_jobs, endpoint
from tests.support.jobs import TENANT, run_sql
from tests.support.receivers import Manner, Received, Receiver, answering, bomb, closing, dripping, endless, hanging, resetting
from tests.support.senders import BASE_URL, SEALING_KEY, give_secret, make_sending, serve
from tests.support.waiting import wait_until
from workers.maintenance.delivery_reaper import DeliveryReaper
from workers.maintenance.resealer import Resealer
from workers.webhooks.session import printable


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def tries(engine: Engine, delivery_id: UUID) -> list[Any]:
    return run_sql(engine, "SELECT * FROM webhook_tries WHERE delivery_id = :id ORDER BY try", id=delivery_id)


def due_now(engine: Engine) -> None:
    """Lets no time pass."""
    run_sql(engine, "UPDATE webhook_deliveries SET available_at = now() WHERE state = 'pending'")


def delay_s(row: Any) -> float:
    """How far off the next try was when the last one was recorded."""
    return float((row.available_at - row.last_try_at).total_seconds())


def endpoint_row(engine: Engine, endpoint_id: UUID) -> Any:
    return run_sql(engine, "SELECT * FROM webhook_endpoints WHERE id = :id", id=endpoint_id)[0]


def verify(secret: str, received: Received) -> dict[str, Any]:
    """By the reference library, which shares no code with the project."""
    found: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    return found


def test_session_sends_each_event_once_signed_as_stored(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    secret = give_secret(engine, one)
    jobs = end_jobs(engine, 20)

    assert serve(make_sending(engine), one).delivered == 20

    bodies = {row.id: bytes(row.body) for row in run_sql(engine, "SELECT id, body FROM events")}
    assert {decode(Prefix.EVENT, got.id): got.body for got in receiver.got} == bodies
    said = [verify(secret, got) for got in receiver.got]
    assert sorted(event["data"]["id"] for event in said) == sorted(encode(Prefix.JOB, job_id) for job_id in jobs)
    assert {event["type"] for event in said} == {"job.succeeded"}
    assert said[0]["data"]["output"] == {"payload": 1}
    assert "input" not in said[0]["data"]
    assert all(value.startswith(BASE_URL) for value in said[0]["data"]["urls"].values())
    assert {got.headers["content-type"] for got in receiver.got} == {"application/json"}
    rows = deliveries(engine)
    assert {(row.state, row.tries, row.status_code, row.error) for row in rows} == {("delivered", 1, 200, None)}
    assert endpoint_row(engine, one).standing == "good"
    assert receiver.connections == 1


def test_session_of_nothing_sends_nothing_and_clears_the_hint(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    run_sql(engine, "UPDATE webhook_endpoints SET hinted_at = now()")
    assert serve(make_sending(engine), one).tries == 0
    assert endpoint_row(engine, one).hinted_at is None


@pytest.mark.parametrize(
    ("manner", "status", "error", "waits_s"),
    [
        pytest.param(hanging, None, "timeout", 5, id="hangs"),
        pytest.param(dripping(b"x", first=b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"), None, "timeout", 5, id="drips"),
        pytest.param(resetting, None, "connection_lost", 5, id="RST"),
        pytest.param(closing, None, "connection_lost", 5, id="closes"),
        pytest.param(answering(500, body=b"no\0 \x1b[31mgood\xff"), 500, "http_status", 5, id="500"),
        pytest.param(answering(404), 404, "http_status", 5, id="404"),
        pytest.param(answering(301, headers={"location": "http://169.254.169.254/latest/"}), 301, "redirect_refused", 5, id="301 to metadata"),
        pytest.param(answering(429, headers={"retry-after": "1"}), 429, "http_status", 5, id="Retry-After 1"),
        pytest.param(answering(429, headers={"retry-after": "8"}), 429, "http_status", 8, id="Retry-After 8"),
        pytest.param(answering(503, headers={"retry-after": "99999"}), 503, "http_status", 10, id="Retry-After 99999"),
        pytest.param(answering(503, headers={"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}), 503, "http_status", 5, id="Retry-After past"),
        pytest.param(answering(503, headers={"retry-after": "Sun, 06 Nov 2094 08:49:37 GMT"}), 503, "http_status", 10, id="Retry-After far"),
        pytest.param(answering(503, headers={"retry-after": "soon, I hope"}), 503, "http_status", 5, id="Retry-After garbage"),
    ],
)
def test_receiver_that_fails_is_tried_again_by_the_schedule(engine: Engine, manner: Manner, status: int | None, error: str, waits_s: float) -> None:
    with Receiver(manner) as receiver:
        one = endpoint(engine, url=receiver.url)
        give_secret(engine, one)
        end_jobs(engine, 2)
        sent = serve(make_sending(engine), one)
        assert len(receiver.got) == 1, "a session ends at the first failure"
    assert (sent.tries, sent.delivered) == (1, 0)
    row = next(row for row in deliveries(engine) if row.tries)
    assert (row.state, row.tries, row.schedule_step, row.status_code, row.error) == ("pending", 1, 1, status, error)
    assert delay_s(row) == pytest.approx(waits_s, abs=2.0)
    (tried,) = tries(engine, row.id)
    assert (tried.status_code, tried.error) == (status, error)
    assert tried.duration_ms < 2_000
    if status == 500:
        assert tried.answer == "no   [31mgood\N{REPLACEMENT CHARACTER}"
    (other,) = [other for other in deliveries(engine) if other.id != row.id]
    assert (other.state, other.tries) == ("pending", 0)


@pytest.mark.parametrize("manner", [endless, bomb])
def test_receiver_with_an_endless_or_packed_answer_took_the_event(engine: Engine, manner: Manner) -> None:
    with Receiver(manner) as receiver:
        one = endpoint(engine, url=receiver.url)
        give_secret(engine, one)
        end_jobs(engine, 1)
        assert serve(make_sending(engine), one).delivered == 1
    (row,) = deliveries(engine)
    assert len(tries(engine, row.id)[0].answer) <= 1_024


def test_post_goes_on_with_the_trace_of_the_job(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 1, traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    traces = [got.headers.get("traceparent", "none") for got in receiver.got]
    assert [trace.split("-")[1:2] for trace in traces] == [["ab" * 16], []]
    assert "cd" * 8 not in traces[0]


def test_receiver_that_is_gone_is_disabled_at_once(engine: Engine, receiver: Receiver) -> None:
    receiver.manner = answering(410)
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 5)
    serve(make_sending(engine), one)
    row = endpoint_row(engine, one)
    assert (row.enabled, row.disabled_reason) == (False, "gone")
    assert {(found.state, found.error) for found in deliveries(engine, one)} == {("failed", "gone"), ("failed", "endpoint_disabled")}
    assert serve(make_sending(engine), one).tries == 0
    assert len(receiver.got) == 1


@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_endpoint_that_went_between_two_tries_gets_no_more(engine: Engine, receiver: Receiver, how: str) -> None:
    receiver.manner = answering(500)
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    with unit_of_work(engine) as connection:
        if how == "disabled":
            change_endpoint(connection, tenant_id=TENANT, endpoint_id=one, changes={"enabled": False})
        else:
            delete_endpoint(connection, tenant_id=TENANT, endpoint_id=one)
    due_now(engine)
    assert serve(make_sending(engine), one).tries == 0
    assert len(receiver.got) == 1
    assert [(row.state, row.error) for row in deliveries(engine)] == [("failed", f"endpoint_{how}")]


def test_schedule_is_followed_to_its_end_under_one_id(engine: Engine, receiver: Receiver) -> None:
    receiver.manner = answering(500)
    one = endpoint(engine, url=receiver.url)
    secret = give_secret(engine, one)
    end_jobs(engine, 1)
    sending = make_sending(engine)
    waits = []
    for _ in range(12):
        serve(sending, one)
        (row,) = deliveries(engine)
        if row.state == "pending":
            waits.append(round(delay_s(row)))
        due_now(engine)
    assert [pytest.approx(wait, abs=2) for wait in waits] == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    assert (row.state, row.tries, row.error) == ("failed", 10, "http_status")
    assert len(receiver.got) == 10
    assert len({(got.id, got.body) for got in receiver.got}) == 1
    assert verify(secret, receiver.got[-1])["type"] == "job.succeeded"
    assert endpoint_row(engine, one).standing == "failing"


def test_endpoint_is_new_then_failing_then_good(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 1)
    receiver.manner = answering(500)
    seen = [endpoint_row(engine, one).standing]
    for _ in range(3):
        serve(make_sending(engine), one)
        due_now(engine)
        seen.append(endpoint_row(engine, one).standing)
    receiver.manner = answering(204)
    serve(make_sending(engine), one)
    assert [*seen, endpoint_row(engine, one).standing] == ["new", "new", "new", "failing", "good"]


def test_secret_rotated_between_tries_signs_beside_the_older_one_until_it_expires(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    old = give_secret(engine, one)
    end_jobs(engine, 1)
    receiver.manner = answering(500)
    serve(make_sending(engine), one)
    new = give_secret(engine, one)
    due_now(engine)
    serve(make_sending(engine), one)
    run_sql(engine, "UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL")
    due_now(engine)
    serve(make_sending(engine), one)
    before, during, after = receiver.got
    assert [len(got.headers["webhook-signature"].split()) for got in receiver.got] == [1, 2, 1]
    for secret, got in ((old, before), (old, during), (new, during), (new, after)):
        verify(secret, got)
    with pytest.raises(Exception, match="No matching signature"):
        verify(old, after)


def test_sealing_key_changed_under_delivery_nothing_is_lost(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    secret = give_secret(engine, one)
    end_jobs(engine, 1)
    stranger, newest = make_sealing_key(), make_sealing_key()
    with pytest.raises(UnknownSealingKey):
        serve(make_sending(engine, sealer=Sealer([stranger])), one)
    (row,) = deliveries(engine)
    assert (row.state, row.tries) == ("pending", 0), "what cannot be signed is neither sent nor spent"

    assert Resealer(engine, Sealer([stranger]), every_s=1).run_once().unknown == 1
    assert Resealer(engine, Sealer([newest, SEALING_KEY]), every_s=1).run_once().secrets == 1
    assert Resealer(engine, Sealer([newest]), every_s=1).run_once().secrets == 0
    assert serve(make_sending(engine, sealer=Sealer([newest])), one).delivered == 1
    verify(secret, receiver.got[0])


def test_database_holds_no_secret(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    secret = give_secret(engine, one)
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    tables = [row.name for row in run_sql(engine, "SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")]
    dump = "\n".join(str(run_sql(engine, f"SELECT t::text FROM {table} t")) for table in tables)
    dump += str([bytes(row.sealed) for row in run_sql(engine, "SELECT sealed FROM webhook_secrets")])
    assert one.hex in dump.replace("-", ""), "the dump is one"
    assert secret.removeprefix("whsec_") not in dump


def test_endpoint_without_a_secret_is_not_sent_to(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    assert [(row.state, row.error) for row in deliveries(engine)] == [("pending", "secret_missing")]
    assert not receiver.got


def test_url_that_is_no_longer_allowed_is_not_sent_to(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url="http://169.254.169.254/latest/meta-data/")
    give_secret(engine, one)
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    assert [(row.state, row.error) for row in deliveries(engine)] == [("pending", "url_refused")]


def test_session_ends_after_its_turn_and_clears_the_hint(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url, standing="good")
    give_secret(engine, one)
    end_jobs(engine, 40)
    run_sql(engine, "UPDATE webhook_endpoints SET hinted_at = now()")
    sent = serve(make_sending(engine, turn_s=0.0), one)
    assert sent.delivered == 16
    assert endpoint_row(engine, one).hinted_at is None
    assert {row.state for row in deliveries(engine)} == {"delivered", "pending"}


def test_session_nobody_else_waits_for_goes_on_after_its_turn(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url, standing="good")
    give_secret(engine, one)
    end_jobs(engine, 40)
    assert serve(make_sending(engine, turn_s=0.0), one, others_wait=lambda: False).delivered == 40


def test_session_that_is_told_to_stop_ends_what_it_sends_and_gives_the_rest_back(engine: Engine, receiver: Receiver) -> None:
    sending = make_sending(engine)

    def stops(connection: socket.socket, received: Received) -> bool:
        sending.stopping.set()
        return answering()(connection, received)

    receiver.manner = stops
    one = endpoint(engine, url=receiver.url, standing="good")
    give_secret(engine, one)
    end_jobs(engine, 10)
    assert serve(sending, one).delivered == 1
    assert sorted((row.state, row.tries) for row in deliveries(engine)) == [("delivered", 1)] + [("pending", 0)] * 9
    assert {row.lease_owner for row in deliveries(engine)} == {None}


def test_sessions_of_one_endpoint_are_at_most_as_many_as_its_standing_allows(engine: Engine) -> None:
    with Receiver(hanging) as receiver:
        one = endpoint(engine, url=receiver.url, standing="good")
        give_secret(engine, one)
        end_jobs(engine, 200)
        sending = make_sending(engine, limits=Limits(good=3))
        threads = [threading.Thread(target=serve, args=(sending, one), kwargs={"owner": f"s:{number}"}) for number in range(6)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(receiver.got) == 3, what="three are being sent")
        assert len({row.lease_owner for row in deliveries(engine) if row.state == "sending"}) == 3
        for thread in threads:
            thread.join()
        assert len(receiver.got) == 3


def test_sender_that_dies_after_its_post_the_event_is_sent_again_under_the_same_id(engine: Engine, receiver: Receiver) -> None:
    class Died(BaseException):
        pass

    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 1)
    dying = make_sending(engine, lease_s=0.01)

    def dice() -> float:
        raise Died

    with pytest.raises(Died):  # after the POST, before the record
        serve(type(dying)(**{name: getattr(dying, name) for name in dying.__slots__} | {"dice": dice}), one)
    wait_until(lambda: DeliveryReaper(engine, grace_s=0.0, every_s=1.0).run_once().deliveries == 1, what="the lease to be taken away")
    assert serve(make_sending(engine), one, owner="s:2").delivered == 1
    first, second = receiver.got
    assert (first.id, first.body) == (second.id, second.body)
    (row,) = deliveries(engine)
    assert [tried.error for tried in tries(engine, row.id)] == ["sender_lost", None]


def test_session_whose_lease_ended_meanwhile_records_nothing(engine: Engine, receiver: Receiver) -> None:
    def lose(connection: socket.socket, received: Received) -> bool:
        run_sql(engine, "UPDATE webhook_deliveries SET lease_expires_at = now() - interval '1 s' WHERE state = 'sending'")
        DeliveryReaper(engine, grace_s=0.0, every_s=1.0).run_once()
        receiver.manner = answering()
        return answering()(connection, received)

    receiver.manner = lose
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    end_jobs(engine, 1)
    serve(make_sending(engine), one)
    assert len(receiver.got) == 2
    (row,) = deliveries(engine)
    assert (row.state, row.tries) == ("delivered", 2)
    assert [tried.error for tried in tries(engine, row.id)] == ["sender_lost", None]


def test_lease_that_is_about_to_end_is_renewed_before_the_next_try(engine: Engine, receiver: Receiver) -> None:
    def slow(connection: socket.socket, received: Received) -> bool:
        threading.Event().wait(0.5)
        DeliveryReaper(engine, grace_s=0.0, every_s=1.0).run_once()
        return answering()(connection, received)

    receiver.manner = slow
    one = endpoint(engine, url=receiver.url, standing="good")
    give_secret(engine, one)
    end_jobs(engine, 5)
    assert serve(make_sending(engine, lease_s=2.0), one).delivered == 5
    assert {row.tries for row in deliveries(engine)} == {1}


def test_database_away_when_a_try_is_recorded_it_is_recorded_later(engine: Engine, receiver: Receiver) -> None:
    away = threading.Event()

    def cut(connection: socket.socket, received: Received) -> bool:
        if not away.is_set():
            away.set()
            ours = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"  # nobody may end an autovacuum
            run_sql(engine, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        return answering()(connection, received)

    receiver.manner = cut
    one = endpoint(engine, url=receiver.url, standing="good")
    give_secret(engine, one)
    end_jobs(engine, 20)
    serve(make_sending(engine), one)
    assert {(row.state, row.tries) for row in deliveries(engine)} == {("delivered", 1)}
    assert len(receiver.got) == 20


def test_connection_is_not_kept_over_sessions(engine: Engine, receiver: Receiver) -> None:
    one = endpoint(engine, url=receiver.url)
    give_secret(engine, one)
    for _ in range(2):
        end_jobs(engine, 2)
        serve(make_sending(engine), one)
        wait_until(lambda: not receiver._open, what="the connection is closed")
    assert receiver.connections == 2


def test_answer_is_shown_without_what_a_terminal_or_a_database_would_choke_on() -> None:
    assert printable(b"a\0b\x1b[0m\r\nc\xff\xe2\x80\xae") == "a b [0m \nc\N{REPLACEMENT CHARACTER} "
    assert json.loads(json.dumps(printable(bytes(range(256)))))
