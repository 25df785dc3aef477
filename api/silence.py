"""Ends requests whose client has fallen silent: the server itself has no time limit for bodies, and a client that is gone says nothing.

The receiving side of the connection is shut down, so that a read of the body ends as if the client had hung up: it is answered, if it is
still there, and its thread is free. Which connections are silent, Linux says; elsewhere nothing happens. Which request came over which
connection nobody says, so it is told by how long both have been there: a request that is ended while it is worked on loses its answer.
"""

import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

from api.in_hand import InHand

log = structlog.get_logger(__name__)

STALLED_S = 20.0
SILENT_S = 75.0  # streams send something every 15 s
MARGIN_S = 15.0  # a request may have waited so long for a thread before it was in hand
MOST_S = 180.0  # longer than anything is in hand that will ever be answered
LOOK_S = 5.0
LATE_S = 5.0  # a look that comes so much later says that the process stood still
BLIND_S = 120.0  # what came meanwhile has been silent for longer than it will have been in hand, until it is answered
_INFO = struct.Struct("=44xI4xI100xI")  # of tcp_info: the milliseconds since something was sent, and since something came; segments of data sent


def end_silent_requests(port: int, in_hand: InHand) -> None:
    """Looks after the connections of this process from a thread of its own.

    Args:
        port: the one that the server listens on.
        in_hand: the requests of this process.
    """

    def watch() -> None:
        limits = Limits(in_hand, time.monotonic())
        while True:
            time.sleep(LOOK_S)
            try:
                client_s, server_s = limits.at(time.monotonic())
                end_silent(port, client_s=client_s, server_s=server_s)
            except Exception:
                log.exception("silent connections were not looked for")

    if sys.platform == "linux":
        threading.Thread(target=watch, name="silence", daemon=True).start()


class Limits:
    """How long connections may be silent, from one look to the next.

    There is no limit as long as no read has waited for its client for 20 s. From then on a client that spoke last may be silent for 20 s, and for 15 s longer
    than any request has been in hand: by then it cannot be one of these. What was in hand at the last look still counts, since its answer may not be on its
    way yet. Once a read has waited for 75 s, a server that spoke last may not be silent for so long either: it may have said ``100 Continue``, and a connection
    that only waits for a next request may be closed at any time.

    Args:
        in_hand: the requests of this process.
        now: ``time.monotonic()``.
    """

    def __init__(self, in_hand: InHand, now: float) -> None:
        self._in_hand = in_hand
        self._looked_at = now
        self._longest_s = 0.0
        self._blind_until = now

    def at(self, now: float) -> tuple[float, float]:
        """The limits in seconds, where the client spoke last and where the server did; infinite where there is none."""
        passed_s = now - self._looked_at
        remembered_s = self._longest_s + passed_s
        self._looked_at = now
        self._longest_s = self._in_hand.longest_s()
        if passed_s > LOOK_S + LATE_S:
            self._blind_until = now + BLIND_S
        read_s = self._in_hand.longest_read_s()
        if now < self._blind_until or read_s < STALLED_S:
            return math.inf, math.inf
        client_s = max(STALLED_S, max(remembered_s, self._longest_s) + MARGIN_S)
        return min(client_s, MOST_S), SILENT_S if read_s >= SILENT_S else math.inf


def end_silent(port: int, *, client_s: float, server_s: float) -> int:
    """Ends connections over which nothing has gone either way for too long.

    Args:
        port: of the server.
        client_s: the limit where the client spoke last.
        server_s: the limit where the server did.

    Returns:
        How many connections were ended.
    """
    if client_s == server_s == math.inf:
        return 0
    ended = 0
    for connection in _sockets():
        with connection, suppress(OSError):  # it is no connection, or goes meanwhile
            if connection.family in {socket.AF_INET, socket.AF_INET6} and connection.getsockname()[1] == port and connection.getpeername():
                sent_s, came_s, answered = silence_of(connection)
                client_spoke_last = came_s < sent_s or not answered
                if (client_spoke_last and came_s >= client_s) or (not client_spoke_last and sent_s >= server_s):
                    connection.shutdown(socket.SHUT_RD)
                    ended += 1
    return ended


def silence_of(connection: socket.socket) -> tuple[float, float, bool]:
    """Seconds since something was sent over a TCP connection, and since something came; whether anything was ever sent.

    Both ages are counted in steps of the kernel's clock: what is answered within one has two that are the same.
    """
    sent_ms, came_ms, segments = _INFO.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size))
    return sent_ms / 1_000, came_ms / 1_000, segments > 0


def _sockets() -> Iterator[socket.socket]:
    """The sockets of this process, each by a descriptor of its own, to be closed."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed since
            if str(entry.readlink()).startswith("socket:"):
                yield socket.fromfd(int(entry.name), -1, -1)
