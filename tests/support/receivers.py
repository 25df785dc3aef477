"""Receivers of webhooks that are real: a listening socket each, and whatever manners a test gives them."""

import contextlib
import gzip
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Received:
    """A request, as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Manner = Callable[[socket.socket, Received], bool]
"""Answers a request; whether the connection is kept."""


def answering(status: int = 200, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Manner:
    """A receiver that behaves."""

    def manner(connection: socket.socket, _: Received) -> bool:
        fields = {"content-length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        connection.sendall(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + body)
        return True

    return manner


def hanging(connection: socket.socket, _: Received) -> bool:
    """Says nothing until the other side goes."""
    connection.recv(1)
    return False


def dripping(piece: bytes, *, every_s: float = 0.05, first: bytes = b"") -> Manner:
    """Sends a little, again and again, so that no single read takes long."""

    def manner(connection: socket.socket, _: Received) -> bool:
        connection.sendall(first)
        connection.settimeout(every_s)
        while True:
            connection.sendall(piece)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return False

    return manner


def resetting(connection: socket.socket, _: Received) -> bool:
    """RST in place of an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def closing(_: socket.socket, __: Received) -> bool:
    """FIN in place of an answer."""
    return False


def endless(connection: socket.socket, _: Received) -> bool:
    """An answer that says 5 GB follow, and means it."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5368709120\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def bomb(connection: socket.socket, _: Received) -> bool:
    """32 MiB of zeros in 32 KiB of gzip, though nobody said that it would be taken."""
    body = gzip.compress(bytes(1 << 25))
    connection.sendall(f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return True


class Receiver:
    """A server on a loopback port, and what it got.

    Args:
        manner: how it answers; may be changed while it runs.
        tls: with TLS.
    """

    def __init__(self, manner: Manner | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.manner = manner or answering()
        self.got: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    @property
    def open(self) -> int:
        """How many connections are open on this side."""
        return len(self._open)

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            if self._tls is not None:
                self._open.discard(connection)
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except OSError:
                    connection.close()
                    return
                self._open.add(connection)
            rest = b""
            while True:
                request, rest = _read(connection, rest)
                if request is None:
                    return
                self.got.append(request)
                if not self.manner(connection, request):
                    return
        except OSError:
            pass  # the other side went
        finally:
            connection.close()
            self._open.discard(connection)


def _read(connection: socket.socket, rest: bytes) -> tuple[Received | None, bytes]:
    while b"\r\n\r\n" not in rest:
        more = connection.recv(65_536)
        if not more:
            return None, b""
        rest += more
    head, _, rest = rest.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    length = int(headers.get("content-length", "0"))
    while len(rest) < length:
        more = connection.recv(65_536)
        if not more:
            return None, b""
        rest += more
    return Received(line, headers, rest[:length]), rest[length:]
