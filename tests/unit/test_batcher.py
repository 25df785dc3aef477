"""The batcher: what goes together, who goes first, and what it does when children, connections and models fail."""

from pathlib import Path
from uuid import UUID

import pytest
from billiard.exceptions import WorkerLostError

from domain.job import Priority
from models.identity import new_id
from models.transactions import DatabaseAway
from tests.support.worker_parts import Message, Rack, worker_config
from workers.batcher import AGAIN_AFTER_S
from workers.board import Progress
from workers.child import ModelNotLoaded, run_dispatch
from workers.lanes import LANE_HANDICAP_S, MORE_WITHIN_S


def _ids(count: int) -> tuple[UUID, ...]:
    return tuple(new_id() for _ in range(count))


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    rack = Rack(worker_config(tmp_path, max_batch_size=8))
    rack.load()
    return rack


# --- batches


def test_idle_worker_starts_a_message_at_once(rack: Rack) -> None:
    ids = _ids(3)
    rack.deliver(Message(*ids))

    assert rack.pool.last.target is run_dispatch
    assert rack.pool.last.ids == list(ids)


def test_busy_worker_fills_the_next_batch_up_to_the_limit(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    waiting = [Message(*_ids(3)) for _ in range(4)]
    rack.deliver(*waiting)
    assert len(rack.pool.given) == 1

    rack.pool.last.succeed()

    assert len(rack.pool.last.ids) == 6, "a third message would make nine"


def test_message_over_the_limit_goes_alone(rack: Rack) -> None:
    rack.deliver(Message(*_ids(20)), Message(*_ids(1)))

    assert len(rack.pool.last.ids) == 20


def test_solo_message_shares_a_batch_with_nobody(rack: Rack) -> None:
    first, solo, third = Message(*_ids(1)), Message(*_ids(1), solo=True), Message(*_ids(1))
    rack.deliver(Message(*_ids(1)))
    rack.deliver(first, solo, third)

    sizes = []
    for _ in range(3):
        rack.pool.last.succeed()
        sizes.append((len(rack.pool.last.ids), rack.pool.last.args[5]))

    assert sizes == [(1, False), (1, True), (1, False)]


def test_same_id_in_two_messages_is_dispatched_once(rack: Rack) -> None:
    ids = _ids(2)
    rack.deliver(Message(*_ids(1)))
    rack.deliver(Message(*ids), Message(*ids))
    rack.pool.last.succeed()

    assert rack.pool.last.ids == list(ids)


def test_messages_are_acknowledged_when_their_batch_has_ended_and_not_before(rack: Rack) -> None:
    messages = [Message(*_ids(1)), Message(*_ids(1))]
    rack.deliver(*messages)
    rack.pool.last.accept()
    assert [message.acknowledged for message in messages] == [0, 0]

    rack.pool.last.succeed()

    assert [message.acknowledged for message in messages] == [1, 1]


@pytest.mark.parametrize(
    "message",
    [
        Message(body={"schema": 2, "model": "echo", "ids": [new_id().hex]}),
        Message(body="words"),
        Message(*_ids(1), model="another"),
        Message(*_ids(1), lane="no-lane"),
    ],
    ids=["schema", "words", "model", "lane"],
)
def test_message_that_cannot_be_read_is_acknowledged_and_dropped(rack: Rack, message: Message) -> None:
    rack.deliver(message)

    assert message.acknowledged == 1
    assert rack.pool.given == []


# --- lanes


def _order(rack: Rack, *messages: tuple[str, float, int]) -> list[int]:
    """The sizes of batches in the order in which messages of (lane, arrival, jobs) are taken."""
    rack.deliver(Message(*_ids(1)))
    for lane, at, jobs in sorted(messages, key=lambda message: message[1]):
        rack.now = at
        rack.deliver(Message(*_ids(jobs), lane=lane))
    sizes = []
    for _ in messages:
        rack.pool.last.succeed()
        rack.now += MORE_WITHIN_S
        rack.batcher.flush()
        sizes.append(len(rack.pool.last.ids))
    return sizes


def test_higher_lane_goes_first(rack: Rack) -> None:
    assert _order(rack, ("flex", 0.0, 5), ("standard", 0.1, 6), ("interactive", 0.2, 7)) == [7, 6, 5]


def test_lower_lane_does_not_slip_in_before_the_higher_ones_next_messages_are_here(rack: Rack) -> None:
    """The broker hands over no more than so many; while all of them are in a batch, only the lower lane's are left."""
    rack.deliver(Message(*_ids(1), lane="interactive"))
    rack.deliver(Message(*_ids(5), lane="flex"))

    rack.pool.last.succeed()
    assert len(rack.pool.given) == 1
    (pause_s, flush) = rack.later[-1]
    assert pause_s == MORE_WITHIN_S
    rack.now += pause_s / 2
    rack.deliver(Message(*_ids(7), lane="interactive"))
    assert len(rack.pool.last.ids) == 7

    rack.pool.last.succeed()
    rack.now += MORE_WITHIN_S
    flush()
    assert len(rack.pool.last.ids) == 5, "nothing came"


def test_lower_lane_is_held_back_once_and_by_one_timer_however_often_the_higher_one_is_acknowledged(tmp_path: Path) -> None:
    rack = Rack(worker_config(tmp_path, concurrency=2, max_batch_size=8))
    rack.load()
    rack.deliver(Message(*_ids(1), lane="interactive"), Message(*_ids(8), lane="interactive"))
    first, second = rack.pool.given
    rack.deliver(Message(*_ids(5), lane="flex"))
    rack.later.clear()

    first.succeed()
    for _ in range(3):
        rack.batcher.flush()
    assert len(rack.later) == 1
    rack.now += MORE_WITHIN_S / 2
    second.succeed()
    rack.now += MORE_WITHIN_S / 2
    rack.later[0][1]()

    assert len(rack.later) == 1
    assert len(rack.pool.last.ids) == 5


def test_lower_lane_that_comes_late_waits_for_what_is_left_of_the_time(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1), lane="interactive"))
    rack.pool.last.succeed()
    rack.now += MORE_WITHIN_S * 0.9
    rack.later.clear()

    rack.deliver(Message(*_ids(5), lane="flex"))

    assert len(rack.pool.given) == 1
    assert [pause_s for pause_s, _ in rack.later] == [pytest.approx(MORE_WITHIN_S * 0.1)]


def test_message_that_has_outwaited_its_lane_waits_for_nobody(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1), lane="interactive"))
    rack.deliver(Message(*_ids(5), lane="flex"))
    rack.now = LANE_HANDICAP_S[Priority.FLEX]

    rack.pool.last.succeed()

    assert len(rack.pool.last.ids) == 5


def test_flex_ages_past_a_flood_of_interactive(rack: Rack) -> None:
    flood = [("interactive", 1.0 * second, 8) for second in range(40)]

    sizes = _order(rack, ("flex", 0.5, 5), *flood)

    assert sizes.index(5) == 21, "it competes as if it had come 20 s later"
    assert LANE_HANDICAP_S[Priority.FLEX] == 20.0


# --- children that die or fail


def test_child_that_died_hands_its_dispatch_over_and_the_next_batch_starts(rack: Rack) -> None:
    message = Message(*_ids(2))
    rack.deliver(message)
    rack.pool.last.accept()
    rack.deliver(Message(*_ids(1)))

    rack.pool.given[0].die()

    assert [dispatch.ids for dispatch in rack.died] == [tuple(rack.pool.given[0].ids)]
    assert len(rack.pool.given) == 2


@pytest.mark.parametrize("error", [WorkerLostError("signal 9"), DatabaseAway("away")], ids=["died", "away"])
def test_message_of_a_dispatch_that_failed_is_acknowledged_when_its_jobs_have_run_again(rack: Rack, error: Exception) -> None:
    message = Message(*_ids(2))
    rack.deliver(message)
    rack.pool.last.fail(error)
    for dispatch in rack.died:
        rack.batcher.again(dispatch, [[job_id] for job_id in dispatch.ids])
    rack.now += AGAIN_AFTER_S
    rack.batcher.flush()
    assert message.acknowledged == 0, "should this process die now, the broker alone knows of what was not claimed"

    for given in rack.pool.given[1:]:
        given.succeed()
    for given in rack.pool.given[2:]:
        given.succeed()

    assert message.acknowledged == 1


def test_message_of_a_dispatch_with_nothing_to_run_again_is_acknowledged(rack: Rack) -> None:
    message = Message(*_ids(1))
    rack.deliver(message)
    rack.pool.last.die()

    rack.batcher.again(rack.died[0], [[]])

    assert message.acknowledged == 1


@pytest.mark.parametrize("error", [WorkerLostError("signal 9"), DatabaseAway("away")], ids=["died", "away"])
def test_stopping_worker_leaves_what_failed_to_the_broker(rack: Rack, error: Exception) -> None:
    message = Message(*_ids(1))
    rack.deliver(message)
    rack.batcher.stopping = True

    rack.pool.last.fail(error)

    assert message.acknowledged == 0


def test_what_nobody_expects_is_judged_like_a_death_and_not_tried_again_for_ever(rack: Rack) -> None:
    rack.deliver(Message(*_ids(2)))

    rack.pool.last.fail(TypeError("can't adapt type"))

    assert [list(dispatch.ids) for dispatch in rack.died] == [rack.pool.last.ids]


def test_what_nobody_expects_is_told_apart_from_a_death(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    rack.deliver(Message(*_ids(1)))
    rack.pool.given[0].fail(TypeError("can't adapt type"))
    rack.pool.given[1].die()

    assert [dispatch.raised for dispatch in rack.died] == ["can't adapt type", None]


def test_children_that_die_before_they_claim_anything_count_as_models_that_do_not_load(rack: Rack) -> None:
    for _ in range(3):
        rack.deliver(Message(*_ids(1)))
        rack.board.place(rack.pool.last.args[1]).enter(7)
        rack.pool.last.die()

    assert len(rack.hopeless) == 1


def test_child_that_dies_in_its_work_says_nothing_of_the_models(rack: Rack) -> None:
    for _ in range(4):
        rack.deliver(Message(*_ids(1)))
        place = rack.board.place(rack.pool.last.args[1])
        place.enter(7)
        place.set_progress(0, Progress.RUNNING)
        rack.pool.last.die()

    assert rack.hopeless == []


def test_dispatch_is_held_still_only_while_it_is_not_over(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    (dispatch,) = rack.batcher.dispatches
    with rack.batcher.held_still(dispatch) as lives:
        assert lives

    rack.pool.last.succeed()

    with rack.batcher.held_still(dispatch) as lives:
        assert not lives


def test_jobs_run_again_under_the_same_owner_before_anything_new(rack: Rack) -> None:
    rack.deliver(Message(*_ids(3)))
    rack.deliver(Message(*_ids(1)))
    first = rack.pool.last
    first.die()
    (dispatch,) = rack.died
    rack.batcher.again(dispatch, [[first.ids[0]], first.ids[1:], []])
    for _ in range(2):
        rack.pool.last.succeed()

    again = rack.pool.given[2:]
    assert [(given.ids, given.owner, given.resumes) for given in again] == [([first.ids[0]], first.owner, True), (first.ids[1:], first.owner, True)]


def test_jobs_that_wait_to_run_again_keep_their_leases(rack: Rack) -> None:
    rack.deliver(Message(*_ids(3)))
    rack.deliver(Message(*_ids(2)))
    first = rack.pool.given[0]
    first.die()
    (dispatch,) = rack.died

    rack.batcher.again(dispatch, [[job_id] for job_id in first.ids])

    assert {(job_id, first.owner) for job_id in first.ids} <= set(rack.batcher.holdings)


def test_database_away_is_tried_again_after_a_moment_with_leases_kept(rack: Rack) -> None:
    rack.deliver(Message(*_ids(2)))
    first = rack.pool.last
    first.fail(DatabaseAway("away"))

    assert rack.died == []
    assert len(rack.pool.given) == 1
    assert {job_id for job_id, _ in rack.batcher.holdings} == set(first.ids)
    ((delay_s, call),) = rack.later
    rack.now += delay_s
    call()
    assert delay_s == AGAIN_AFTER_S
    assert (rack.pool.last.ids, rack.pool.last.owner, rack.pool.last.resumes) == (first.ids, first.owner, True)


def test_places_are_never_used_by_two_dispatches_at_once(rack: Rack) -> None:
    for round_number in range(50):
        rack.deliver(Message(*_ids(1)))
        if round_number % 7 == 3:
            rack.pool.last.die()
        elif round_number % 7 == 5:
            rack.pool.last.fail(DatabaseAway("away"))
        elif round_number % 7 == 6:
            rack.connect()
            for ghost in [dispatch for dispatch in rack.batcher.dispatches if rack.batcher.is_ghost(dispatch)]:
                rack.batcher.bury(ghost)
        else:
            rack.pool.last.succeed()
        places = [dispatch.place_number for dispatch in rack.batcher.dispatches]
        assert len(places) == len(set(places))


# --- connections


def test_reconnect_drops_what_was_not_started_and_frees_what_no_child_accepted(rack: Rack) -> None:
    vanished, buffered = Message(*_ids(1)), Message(*_ids(2))
    rack.deliver(vanished, buffered)
    rack.pool.given.clear()

    rack.connect()
    rack.batcher.begin()
    assert rack.pool.given == []
    assert rack.batcher.busy == 0

    rack.deliver(Message(*_ids(3)))
    assert len(rack.pool.last.ids) == 3
    assert len(rack.batcher.dispatches) == 2, "the vanished one stays as a ghost until it is known to hold nothing"


def test_reconnect_leaves_what_a_child_runs_alone(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    running = rack.pool.last
    running.accept()

    rack.connect()
    rack.batcher.begin()
    rack.deliver(Message(*_ids(1)))
    assert len(rack.pool.given) == 1, "its child is busy"

    running.succeed()
    assert len(rack.pool.given) == 2


def test_reconnect_takes_up_what_was_to_run_again_in_a_moment(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    rack.pool.last.fail(DatabaseAway("away"))
    rack.later.clear()  # timers die with the connection

    rack.connect()
    rack.batcher.begin()
    for delay_s, call in rack.later:
        rack.now += delay_s
        call()

    assert len(rack.pool.given) == 2


def test_reconnect_of_a_worker_that_is_ready_consumes_again_and_loads_nothing(rack: Rack) -> None:
    before = rack.ready

    rack.connect()
    rack.batcher.begin()

    assert rack.ready == before + 1
    assert rack.pool.given == []


def test_acknowledgement_on_a_lost_connection_is_no_error(rack: Rack) -> None:
    message = Message(*_ids(1))

    def lost() -> None:
        raise ConnectionResetError

    message.ack = lost  # type: ignore[method-assign]
    rack.deliver(message)
    rack.pool.last.succeed()

    assert rack.batcher.busy == 0


# --- stopping


def test_stopping_worker_starts_nothing(rack: Rack) -> None:
    rack.deliver(Message(*_ids(1)))
    waiting = Message(*_ids(1))
    rack.deliver(waiting)
    rack.batcher.stopping = True

    rack.pool.last.succeed()

    assert len(rack.pool.given) == 1
    assert waiting.acknowledged == 0, "it goes back with the connection"


def test_pool_that_closes_leaves_the_message_to_the_broker(rack: Rack) -> None:
    rack.pool.closing = True
    message = Message(*_ids(1))
    rack.batcher.receive(message)
    rack.batcher.flush()

    assert message.acknowledged == 0
    assert rack.batcher.dispatches == []


# --- models


def test_nothing_runs_before_the_models_are_loaded(tmp_path: Path) -> None:
    rack = Rack(worker_config(tmp_path, concurrency=2))
    rack.batcher.begin()
    probes = list(rack.pool.given)
    rack.deliver(Message(*_ids(1)))
    assert (rack.ready, len(rack.pool.given)) == (0, 2)

    probes[0].options["callback"](11)
    assert rack.ready == 0
    probes[1].options["callback"](12)

    assert rack.ready == 1


def test_three_failed_loads_are_the_end(tmp_path: Path) -> None:
    rack = Rack(worker_config(tmp_path))
    rack.batcher.begin()
    for _ in range(3):
        rack.pool.last.fail(ModelNotLoaded("echo: OSError: no such file"))

    assert rack.ready == 0
    assert len(rack.hopeless) == 1
    assert "no such file" in rack.hopeless[0]
    assert len(rack.pool.given) == 3


def test_load_that_works_at_the_second_try_is_enough(tmp_path: Path) -> None:
    rack = Rack(worker_config(tmp_path))
    rack.batcher.begin()
    rack.pool.last.fail(ModelNotLoaded("echo: busy"))
    rack.pool.last.options["callback"](11)

    assert (rack.ready, rack.hopeless) == (1, [])


def test_progress_of_a_finished_dispatch_is_not_renewed(rack: Rack) -> None:
    rack.deliver(Message(*_ids(2)))
    (dispatch,) = rack.batcher.dispatches
    dispatch.place.set_progress(0, Progress.DONE)

    assert [job_id for job_id, _ in rack.batcher.holdings] == [dispatch.ids[1]]
