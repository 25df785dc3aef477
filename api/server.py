"""The HTTP server: granian, WSGI, blocking threads, HTTP/1.1.

``docs/decisions/0003-http-edge.md`` says why, and what was tried on it.
"""

import ctypes
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server import Server

from domain.errors import ConfigurationError

STOP_S = 5  # after that, a process that still serves is ended
HEADERS_MS = 10_000  # a client may take so long to send its headers
MAX_HEADERS_BYTES = 32_768  # the server looks at whole reads, so up to twice as much may pass
BACKLOG = 1_024
_PR_SET_PDEATHSIG = 1  # prctl(2)


def serve(target: str, *, host: str, port: int, processes: int, threads: int) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        target: ``module:function`` that builds the WSGI application; called in each process.
        host: address to listen on.
        port: and its port.
        processes: behind one port; the kernel shares connections out.
        threads: requests that each process serves at once.

    Raises:
        ConfigurationError: the address is not this machine's, or the port is taken.
    """
    check_free(host, port)
    logging.getLogger("_granian").setLevel(logging.WARNING)
    Server(
        target,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        factory=True,
        workers=processes,
        blocking_threads=threads,
        backpressure=threads + BACKLOG,
        backlog=BACKLOG,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_MS, max_buffer_size=MAX_HEADERS_BYTES),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_S,
    ).serve()


def on_stop_signal(stop: Callable[[], None]) -> None:
    """Calls ``stop`` from a thread of its own when this process is told to end; whoever handles the signal still does.

    The server's own handling waits for requests that are held, so these must hear of it some other way. Call it in the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003 - its name says it
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with reader, writer:
            while not {signal.SIGTERM, signal.SIGINT} & set(reader.recv(64)):
                pass
            stop()

    threading.Thread(target=listen, name="stop-signal", daemon=True).start()


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone: killed alone, it would leave a server behind that holds the port.

    Linux's own mechanism; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def check_free(host: str, port: int) -> None:
    """Binds and lets go: granian shares its port, so a second server would start beside the first without a word.

    Raises:
        ConfigurationError: the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"MILLPOND_HOST, MILLPOND_PORT: cannot listen on {host}:{port}: {error.strerror}; choose another, for example MILLPOND_PORT={port % 65_535 + 1}"
        ) from error
