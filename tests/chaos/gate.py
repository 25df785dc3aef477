"""A TCP proxy in front of a server, which can be shut, cut, or made to swallow all that is said to it."""

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.platform import free_port

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s, so that closing sends RST
_POLL_S = 0.1


class Gate:
    """Stands between processes and one server; open at first."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._server = (str(parts.hostname), int(parts.port or (5672 if parts.scheme == "amqp" else 6379)))
        self.port = free_port()
        login = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}" if login else f"127.0.0.1:{self.port}"))
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._swallows = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shut()

    def open(self) -> None:
        """Lets connections through."""
        self._swallows = False
        if self._listener is None:
            listener = self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            listener.settimeout(_POLL_S)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """The server is away: connections break, new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.cut()

    def swallow(self) -> None:
        """The server hangs: connections are taken, and nothing is ever answered."""
        self.open()
        self._swallows = True
        self.cut()

    def cut(self) -> None:
        """Breaks every connection with a reset; new ones are let through as before."""
        with self._lock:
            broken, self._sockets = self._sockets, set()
        for end in broken:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        ends = [client]
        if not self._swallows:
            try:
                ends.append(socket.create_connection(self._server, 2.0))
            except OSError:
                client.close()
                return
            ends[1].settimeout(None)
        client.settimeout(None)
        with self._lock:
            self._sockets.update(ends)
        if len(ends) == 2:
            for source, sink in (ends, ends[::-1]):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        with self._lock:
            self._sockets -= {source, sink}
