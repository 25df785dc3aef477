"""Ends requests whose client has fallen silent: the server itself has no time limit for bodies, and a client that is gone says nothing.

The receiving side of the connection is shut down, so that a read of the body ends as if the client had hung up: it is answered, if it is
still there, and its thread is free. Which connections are silent, Linux says; elsewhere nothing happens.
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

STALLED_S = 20.0
SILENT_S = 75.0  # longer than any wait is held; streams send something every 15 s
MARGIN_S = 5.0  # from a request's last byte until it is in hand
LOOK_S = 5.0
_INFO = struct.Struct("=44xI4xI100xI")  # of tcp_info: the milliseconds since something was sent, and since something came; segments of data sent


def end_silent_requests(port: int, *, longest_s: Callable[[], float]) -> None:
    """Looks after the connections of this process from a thread of its own.

    Args:
        port: the one that the server listens on.
        longest_s: how long the oldest request has been in hand, held or worked on; its client is silent and must be.
    """

    def watch() -> None:
        while True:
            time.sleep(LOOK_S)
            end_silent(port, silent_s=limit_s(longest_s()))

    if sys.platform == "linux":
        threading.Thread(target=watch, name="silence", daemon=True).start()


def limit_s(longest_s: float) -> float:
    """How long a client may be silent: 20 s, but longer than any request has been in hand, which then cannot be its; no more than 75 s."""
    return min(SILENT_S, max(STALLED_S, longest_s + MARGIN_S))


def end_silent(port: int, *, silent_s: float) -> int:
    """Ends what clients that spoke last have left unfinished; connections that wait for a next request are left alone.

    Args:
        port: of the server.
        silent_s: nothing has come and nothing was sent for so long.

    Returns:
        How many connections were ended.
    """
    ended = 0
    for connection in _sockets():
        with connection, suppress(OSError):  # it is no connection, or goes meanwhile
            if connection.family in {socket.AF_INET, socket.AF_INET6} and connection.getsockname()[1] == port and connection.getpeername():
                sent_s, came_s, answered = silence_of(connection)
                if came_s >= silent_s and (came_s < sent_s or not answered):
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
