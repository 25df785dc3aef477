import threading
from concurrent.futures import ThreadPoolExecutor

from api.in_hand import InHand
from tests.support.waiting import wait_until


def test_in_hand_tells_of_the_oldest_request_until_it_is_answered() -> None:
    in_hand, answer = InHand(), threading.Event()

    def serve() -> None:
        with in_hand.taken():
            answer.wait(30)

    assert in_hand.longest_s() == 0.0
    with ThreadPoolExecutor(1) as pool:
        pool.submit(serve)
        wait_until(lambda: in_hand.longest_s() > 0.2)
        try:
            with in_hand.taken():
                assert in_hand.longest_s() > 0.2
        finally:
            answer.set()
    assert in_hand.longest_s() == 0.0


def test_in_hand_leaves_out_a_request_that_still_reads_and_counts_it_again_afterwards() -> None:
    in_hand = InHand()
    with in_hand.taken():
        wait_until(lambda: in_hand.longest_s() > 0.1)
        with in_hand.reading():
            assert in_hand.longest_s() == 0.0
            wait_until(lambda: in_hand.longest_read_s() > 0.1)
        assert in_hand.longest_read_s() == 0.0
        assert in_hand.longest_s() > 0.2


def test_in_hand_knows_nothing_of_a_body_that_is_read_outside_a_request() -> None:
    in_hand = InHand()
    with in_hand.reading():
        pass
    assert in_hand.longest_s() == 0.0
