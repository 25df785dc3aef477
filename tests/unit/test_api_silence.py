import socket
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf

import pytest

from api.in_hand import InHand
from api.silence import LATE_S, LOOK_S, Limits, end_silent, silence_of
from tests.support.waiting import wait_until


class Pairs:
    """Connections to one port, both ends of which are in this process."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port: int = self._listener.getsockname()[1]

    def connect(self, says: bytes) -> tuple[socket.socket, socket.socket]:
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))
        client.sendall(says)
        server = self._stack.enter_context(self._listener.accept()[0])
        assert server.recv(100) == says
        return client, server


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as stack:
        yield Pairs(stack)


def test_silent_client_that_spoke_last_ends_the_read_and_still_hears_the_answer(pairs: Pairs) -> None:
    client, server = pairs.connect(b"half of a body")
    assert end_silent(pairs.port, client_s=60.0, server_s=inf) == 0
    wait_until(lambda: end_silent(pairs.port, client_s=0.2, server_s=inf) == 1)
    assert server.recv(100) == b""
    server.sendall(b"400")
    assert client.recv(100) == b"400"


def test_silent_connection_that_was_answered_at_once_is_left_alone(pairs: Pairs) -> None:
    servers = []
    for _ in range(50):
        _, server = pairs.connect(b"a request")
        server.sendall(b"its answer")
        servers.append(server)
    wait_until(lambda: all(silence_of(server)[1] > 0.3 for server in servers))
    assert any(silence_of(server)[0] == silence_of(server)[1] for server in servers)
    assert end_silent(pairs.port, client_s=0.2, server_s=inf) == 0


def test_silent_connection_that_was_answered_is_left_alone_and_so_are_other_ports(pairs: Pairs) -> None:
    client, server = pairs.connect(b"a request")
    wait_until(lambda: silence_of(server)[1] > 0.05)
    server.sendall(b"its answer")
    other, _ = Pairs(pairs._stack).connect(b"elsewhere")
    wait_until(lambda: silence_of(server)[0] > 0.3 and silence_of(other)[0] > 0.3)
    assert end_silent(pairs.port, client_s=0.2, server_s=inf) == 0
    client.sendall(b"the next")
    assert server.recv(100) == b"the next"


def test_silent_connection_whose_server_spoke_last_is_ended_by_a_limit_of_its_own(pairs: Pairs) -> None:
    client, server = pairs.connect(b"Expect: 100-continue")
    wait_until(lambda: silence_of(server)[1] > 0.05)
    server.sendall(b"100 Continue")
    wait_until(lambda: silence_of(server)[0] > 0.3)
    assert end_silent(pairs.port, client_s=0.2, server_s=60.0) == 0
    assert end_silent(pairs.port, client_s=0.2, server_s=0.2) == 1
    assert server.recv(100) == b""
    assert client.recv(100) == b"100 Continue"


class Requests(InHand):
    """As old as a test says."""

    longest = 0.0
    read = 0.0

    def longest_s(self) -> float:
        return self.longest

    def longest_read_s(self) -> float:
        return self.read


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.mark.parametrize("longest_s", [0.0, 60.0])
def test_silence_has_no_limit_as_long_as_no_read_waits(requests: Requests, longest_s: float) -> None:
    requests.longest, requests.read = longest_s, 19.0
    assert Limits(requests, 100.0).at(100.0 + LOOK_S) == (inf, inf)


@pytest.mark.parametrize(("longest_s", "limit"), [(0.0, 20.0), (4.0, 20.0), (6.0, 21.0), (90.0, 105.0)])
def test_silence_is_longer_than_any_request_has_been_in_hand(requests: Requests, longest_s: float, limit: float) -> None:
    requests.longest, requests.read = longest_s, 20.0
    assert Limits(requests, 100.0).at(100.0 + LOOK_S) == (limit, inf)
    requests.read = 75.0
    assert Limits(requests, 100.0).at(100.0 + LOOK_S) == (limit, 75.0)


def test_silence_beside_a_request_that_is_never_answered_has_a_limit(requests: Requests) -> None:
    requests.longest, requests.read = 10_000.0, 20.0
    assert Limits(requests, 100.0).at(100.0 + LOOK_S) == (180.0, inf)


def test_silence_counts_what_was_in_hand_at_the_last_look(requests: Requests) -> None:
    requests.longest, requests.read = 59.0, 70.0
    limits = Limits(requests, 100.0)
    limits.at(105.0)
    requests.longest = 0.0
    assert limits.at(110.0) == (79.0, inf)
    assert limits.at(115.0) == (20.0, inf)


def test_silence_has_no_limit_for_two_minutes_after_the_process_stood_still(requests: Requests) -> None:
    requests.read = 70.0
    limits = Limits(requests, 100.0)
    late = 100.1 + LOOK_S + LATE_S
    assert limits.at(late) == (inf, inf)
    assert all(limits.at(late + seconds) == (inf, inf) for seconds in range(5, 120, 5))
    assert limits.at(late + 120) == (20.0, inf)
