"""A load generator for HTTP/1.1 on the loopback: kept-alive sockets and one epoll, some 20 µs of CPU a request.

It sends prepared bytes and reads just enough of an answer to know where it ends. A client library would take more CPU than the
server it measures.
"""

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HOST = "127.0.0.1"
ANSWER_WITHIN_S = 30.0


class BenchmarkFailed(Exception):
    """A measurement cannot be trusted, or could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load.

    Attributes:
        answers: how many by status.
        elapsed_s: from the first request to the last answer.
        latencies_s: of each request.
    """

    answers: Counter[int]
    elapsed_s: float
    latencies_s: list[float] = field(repr=False)

    def per_s(self, status: int) -> float:
        """Answers of a status a second."""
        return self.answers[status] / self.elapsed_s


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A POST of JSON, as it goes over the wire."""
    return _request("POST", path, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}) + body


def get(path: str, headers: dict[str, str] | None = None) -> bytes:
    """A GET, as it goes over the wire."""
    return _request("GET", path, headers or {})


class Connection:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=ANSWER_WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def ask(self, request: bytes) -> Answer:
        """Sends a request and waits for its answer.

        Raises:
            BenchmarkFailed: the server closed the connection.
        """
        self.socket.sendall(request)
        return self.read()

    def read(self) -> Answer:
        """Waits for an answer."""
        while (answer := self.receive()) is None:
            pass
        return answer

    def receive(self) -> Answer | None:
        """Reads once; an answer if it is whole now."""
        part = self.socket.recv(65_536)
        if not part:
            raise BenchmarkFailed("the server closed a connection")
        self._received += part
        answer = parse(self._received)
        if answer is not None:
            self._received = b""
        return answer

    def fileno(self) -> int:
        """For ``select``."""
        return self.socket.fileno()

    def close(self) -> None:
        """Closes it."""
        self.socket.close()


def parse(received: bytes) -> Answer | None:
    """The answer, if all of it is there.

    Raises:
        BenchmarkFailed: it does not say how long it is.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise BenchmarkFailed("an answer has no Content-Length")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    body = received[end + 4 :]
    return Answer(int(received[9:12]), received[:end], body) if len(body) >= length else None


@contextmanager
def connections(port: int, number: int) -> Iterator[list[Connection]]:
    """Open connections, closed at the end."""
    opened: list[Connection] = []
    try:
        opened.extend(Connection(port) for _ in range(number))
        yield opened
    finally:
        for connection in opened:
            connection.close()


def drive(port: int, request: bytes, *, number: int, for_s: float, most: int | None = None) -> Load:
    """Sends the same request over and over, each connection as soon as it has its answer.

    Args:
        port: of the server.
        request: from ``post`` or ``get``.
        number: of connections.
        for_s: no request begins later than this; those under way are waited for.
        most: requests in all, give or take those under way.

    Raises:
        BenchmarkFailed: no answer came for half a minute, or a connection was closed.
    """
    answers: Counter[int] = Counter()
    latencies: list[float] = []
    with connections(port, number) as opened, select.epoll() as poll:
        by_number = {connection.socket.fileno(): connection for connection in opened}
        sent_at: dict[int, float] = {}
        began = time.perf_counter()
        for descriptor, connection in by_number.items():
            poll.register(descriptor, select.EPOLLIN)
            sent_at[descriptor] = time.perf_counter()
            connection.socket.sendall(request)
        while sent_at:
            ready = poll.poll(ANSWER_WITHIN_S)
            if not ready:
                raise BenchmarkFailed(f"no answer within {ANSWER_WITHIN_S:g} s")
            for descriptor, _ in ready:
                answer = by_number[descriptor].receive()
                if answer is None:
                    continue
                now = time.perf_counter()
                answers[answer.status] += 1
                latencies.append(now - sent_at[descriptor])
                if now - began < for_s and (most is None or len(latencies) + len(sent_at) <= most):
                    sent_at[descriptor] = now
                    by_number[descriptor].socket.sendall(request)
                else:
                    del sent_at[descriptor]
        return Load(answers, time.perf_counter() - began, latencies)


def wait_for_port(port: int, *, alive: Callable[[], None], within_s: float = 30.0) -> None:
    """Waits until a server listens.

    Args:
        port: where.
        alive: raises when its process has ended.
        within_s: how long at most.

    Raises:
        BenchmarkFailed: it does not.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        alive()
        try:
            Connection(port).close()
        except OSError as error:
            if time.monotonic() > give_up_at:
                raise BenchmarkFailed(f"nothing listens on port {port} after {within_s:g} s") from error
            time.sleep(0.05)
        else:
            return


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all is not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _request(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
