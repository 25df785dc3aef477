"""Ends requests whose client has fallen silent: the server itself has no time limit for bodies, and a client that is gone says nothing.

The receiving side of the connection is shut down, so that a read of the body ends as if the client had hung up: it is answered, if it is
still there, and its thread is free. Which connections are silent, Linux says; elsewhere nothing happens.
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
SILENT_S = 75.0  # longer than any wait is held; streams send something every 15 s
MARGIN_S = 15.0  # a request may have waited so long for a thread before it was in hand
LOOK_S = 5.0
LATE_S = 2.0  # a look that comes so much later says that the process stood still: nothing is known of that time
_INFO = struct.Struct("=44xI4xI100xI")  # of tcp_info: the milliseconds since something was sent, and since something came; segments of data sent


def end_silent_requests(port: int, in_hand: InHand) -> None:
    """Looks after the connections of this process from a thread of its own.

    Args:
        port: the one that the server listens on.
        in_hand: the requests of this process.
    """
    if sys.platform == "linux":
        threading.Thread(target=_watch, args=(port, in_hand), name="silence", daemon=True).start()


def _watch(port: int, in_hand: InHand) -> None:
    longest_s = 0.0
    while True:
        began_at = time.monotonic()
        time.sleep(LOOK_S)
        slept_s = time.monotonic() - began_at
        before_s, longest_s = longest_s + slept_s, in_hand.longest_s()  # what was answered since the last look may not be on its way yet
        if slept_s > LOOK_S + LATE_S:
            continue
        client_s, either_s = limits_s(read_s=in_hand.longest_read_s(), longest_s=max(before_s, longest_s))
        try:
            end_silent(port, client_s=client_s, either_s=either_s)
        except OSError as error:  # no descriptor is free
            log.warning("silent connections were not looked for", error=str(error))


def limits_s(*, read_s: float, longest_s: float) -> tuple[float, float]:
    """How long a client that spoke last may be silent, and how long both sides may.

    There is no limit as long as no read has waited for its client for 20 s. From then on 20 s, and 15 s more than any request has been in hand, so that it
    cannot be one of these that is ended; at most 75 s. Once a read has waited for 75 s, neither side may be silent for so long: what the server said last may
    have been ``100 Continue``, and a connection that only waits for a next request may be closed at any time.

    Args:
        read_s: how long the oldest read has waited for its client.
        longest_s: how long the oldest request has been in hand, held or worked on; its client is silent and must be.
    """
    if read_s < STALLED_S:
        return math.inf, math.inf
    return min(SILENT_S, max(STALLED_S, longest_s + MARGIN_S)), SILENT_S if read_s >= SILENT_S else math.inf


def end_silent(port: int, *, client_s: float, either_s: float) -> int:
    """Ends connections that have been silent for too long.

    Args:
        port: of the server.
        client_s: the limit where the client spoke last.
        either_s: the limit whoever spoke last.

    Returns:
        How many connections were ended.
    """
    ended = 0
    for connection in _sockets() if min(client_s, either_s) < math.inf else ():
        with connection, suppress(OSError):  # it is no connection, or goes meanwhile
            if connection.family in {socket.AF_INET, socket.AF_INET6} and connection.getsockname()[1] == port and connection.getpeername():
                sent_s, came_s, answered = silence_of(connection)
                client_spoke_last = came_s < sent_s or not answered
                if (client_spoke_last and came_s >= client_s) or min(sent_s, came_s) >= either_s:
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
