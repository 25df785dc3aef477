import socket
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf

import pytest

from api.silence import end_silent, limits_s, silence_of
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
    assert end_silent(pairs.port, client_s=60.0, either_s=inf) == 0
    wait_until(lambda: end_silent(pairs.port, client_s=0.2, either_s=inf) == 1)
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
    assert end_silent(pairs.port, client_s=0.2, either_s=inf) == 0


def test_silent_connection_that_was_answered_is_left_alone_and_so_are_other_ports(pairs: Pairs) -> None:
    client, server = pairs.connect(b"a request")
    wait_until(lambda: silence_of(server)[1] > 0.05)
    server.sendall(b"its answer")
    other, _ = Pairs(pairs._stack).connect(b"elsewhere")
    wait_until(lambda: silence_of(server)[0] > 0.3 and silence_of(other)[0] > 0.3)
    assert end_silent(pairs.port, client_s=0.2, either_s=inf) == 0
    client.sendall(b"the next")
    assert server.recv(100) == b"the next"


def test_silent_connection_whose_server_spoke_last_is_ended_where_neither_may_be_silent(pairs: Pairs) -> None:
    client, server = pairs.connect(b"Expect: 100-continue")
    wait_until(lambda: silence_of(server)[1] > 0.05)
    server.sendall(b"100 Continue")
    wait_until(lambda: silence_of(server)[0] > 0.3)
    assert end_silent(pairs.port, client_s=0.2, either_s=60.0) == 0
    assert end_silent(pairs.port, client_s=0.2, either_s=0.2) == 1
    assert server.recv(100) == b""
    assert client.recv(100) == b"100 Continue"


@pytest.mark.parametrize("longest_s", [0.0, 60.0])
def test_silence_has_no_limit_as_long_as_no_read_waits(longest_s: float) -> None:
    assert limits_s(read_s=19.0, longest_s=longest_s) == (inf, inf)


@pytest.mark.parametrize(("longest_s", "limit"), [(0.0, 20.0), (4.0, 20.0), (6.0, 21.0), (59.0, 74.0), (300.0, 75.0)])
def test_silence_is_longer_than_any_request_has_been_in_hand(longest_s: float, limit: float) -> None:
    assert limits_s(read_s=20.0, longest_s=longest_s) == (limit, inf)
    assert limits_s(read_s=75.0, longest_s=longest_s) == (limit, 75.0)
