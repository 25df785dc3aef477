"""Connections to judged addresses, as httpcore's transport wants them; whatever is done on one ends at the same deadline.

httpcore's own time-outs are for one read or one write each: a receiver that drips a byte a second never meets them.
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from domain.outbound import Address
from workers.outbound.resolver import Resolver

READ_BYTES = 16 * 1024
WRITE_BYTES = 64 * 1024  # of a request wait for the rest of it
SLACK_S = 0.05  # by so much a step may pass the deadline
MAX_TRIED = 4  # addresses of one name

Judge = Callable[[Address], str | None]


class Forbidden(httpcore.NetworkError):
    """The name leads, with any of its addresses, to where no connection may be made."""


class TlsFailed(httpcore.NetworkError):
    """The other side is not who it should be, or does not speak TLS."""


class TimeIsUp(httpcore.TimeoutException):
    """The deadline has passed."""


class Deadline:
    """A moment that all steps of a request share.

    Attributes:
        at: monotonic seconds.
    """

    def __init__(self) -> None:
        self.at = 0.0

    def begin(self, seconds: float) -> None:
        """From now on."""
        self.at = time.monotonic() + seconds

    def left_s(self) -> float:
        """What is left of it; more than nothing.

        Raises:
            TimeIsUp: nothing is.
        """
        left_s = self.at - time.monotonic()
        if left_s <= 0:
            raise TimeIsUp("the whole took too long")
        return left_s


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name once, judges every address, and connects to one of those it has judged.

    Args:
        resolver: for names.
        judge: why an address is forbidden; None where it is not.
        deadline: of the request that is under way.
        connect_s: for resolving and connecting together.
        allow_self: whether an address of this machine's own will do.
    """

    def __init__(self, *, resolver: Resolver, judge: Judge, deadline: Deadline, connect_s: float, allow_self: bool) -> None:
        self._resolver = resolver
        self._judge = judge
        self._deadline = deadline
        self._connect_s = connect_s
        self._allow_self = allow_self

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: object = None,  # noqa: ARG002 - httpcore's per-step time-out; the deadline is in its place
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Connects to the first address that answers.

        Raises:
            NotResolved, Forbidden: nothing was connected to.
            httpcore.ConnectError, httpcore.ConnectTimeout: nobody answers there.
        """
        until = time.monotonic() + min(self._connect_s, self._deadline.left_s())
        try:
            addresses = [ip_address(host)]
        except ValueError:
            addresses = self._resolver.resolve(host, port, timeout_s=until - time.monotonic())
        for address in addresses:
            if why := self._judge(address):
                raise Forbidden(f"{host} leads to an address that is {why}")  # which one is nobody's business: names inside our network resolve too
        tried = addresses[:MAX_TRIED]
        for place, address in enumerate(tried, start=1):
            share_s = (until - time.monotonic()) / (len(tried) - place + 1)
            try:
                if share_s <= 0:
                    raise TimeoutError("timed out")
                connected = socket.create_connection((str(address), port), share_s)
                break
            except OSError as error:
                if place == len(tried):
                    kind = httpcore.ConnectTimeout if isinstance(error, TimeoutError) else httpcore.ConnectError
                    raise kind(f"port {port}: {error.strerror or error}") from error
        try:
            itself = not self._allow_self and connected.getsockname()[0] == connected.getpeername()[0]
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:  # it was accepted and reset in the same moment
            connected.close()
            raise httpcore.ConnectError(f"port {port}: {_say(error)}") from error
        if itself:
            connected.close()
            raise Forbidden(f"{host} leads to this machine itself")
        return _Stream(connected, self._deadline)

    def connect_unix_socket(self, path: str, timeout: object = None, socket_options: Iterable[Any] | None = None) -> httpcore.NetworkStream:  # noqa: ARG002
        """Never.

        Raises:
            Forbidden: always.
        """
        raise Forbidden("no request goes to a socket of this machine")


class _Stream(httpcore.NetworkStream):
    """A connection whose every step gets what is left until the deadline.

    What is written waits until something is read, or is much: head and body of a small request go out as one packet. With many threads, each call of
    the system that is saved is a turn of the interpreter's lock saved.
    """

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline
        self._unsent = bytearray()
        self._step_s: float | None = None  # what the socket has as its time-out now

    def read(self, max_bytes: int, timeout: object = None) -> bytes:  # noqa: ARG002 - as in connect_tcp
        self._flush()
        try:
            self._bound()
            return self._socket.recv(min(max_bytes, READ_BYTES))
        except TimeoutError as error:
            raise TimeIsUp("no answer in time") from error
        except OSError as error:
            raise httpcore.ReadError(_say(error)) from error

    def write(self, buffer: bytes, timeout: object = None) -> None:  # noqa: ARG002
        self._unsent += buffer
        if len(self._unsent) >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        unsent, self._unsent = bytes(self._unsent), bytearray()
        rest = memoryview(unsent)
        try:
            while rest:
                self._bound()
                rest = rest[self._socket.send(rest) :]
        except TimeoutError as error:
            raise TimeIsUp("the request was not taken in time") from error
        except OSError as error:
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise httpcore.WriteError(_say(error)) from error
            # whoever closes before it has read everything may have answered first: what it said is read next

    def _bound(self) -> None:
        """Gives the next step what is left, to within a few hundredths of a second."""
        left_s = self._deadline.left_s()
        if self._step_s is None or abs(left_s - self._step_s) > SLACK_S:
            self._socket.settimeout(left_s)
            self._step_s = left_s

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: object = None) -> httpcore.NetworkStream:  # noqa: ARG002
        """Python's handshake takes its time-out for the whole of it, not for one read."""
        try:
            self._bound()
            self._socket = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise TimeIsUp("TLS was not agreed on in time") from error
        except (ssl.SSLError, ssl.CertificateError, ValueError) as error:
            self.close()
            raise TlsFailed(getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)) from error
        except OSError as error:
            self.close()
            raise TlsFailed(_say(error)) from error
        return self

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # httpcore asks before it uses a connection again: one that can be read is closed or out of step
            return self._socket.fileno() < 0 or _is_readable(self._socket)
        return None


def _is_readable(connected: socket.socket) -> bool:
    waiting = select.poll()
    waiting.register(connected, select.POLLIN)
    return bool(waiting.poll(0))


def _say(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
