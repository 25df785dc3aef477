"""One request at a time to one origin, on a connection that is kept as long as it serves; for webhooks, and for files that jobs name.

Redirects are not followed, nothing is decompressed, proxies in the environment are not asked: what goes out goes where ``domain.outbound`` allows.
"""

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import httpcore
import structlog

from domain.delivery import TryError
from domain.outbound import Target, refuse_address
from workers.outbound.network import Deadline, Forbidden, GuardedBackend, Judge, TlsFailed
from workers.outbound.resolver import NotResolved, Resolver

log = structlog.get_logger(__name__)

CONNECT_S = 5.0  # RELIABILITY §3.7
TOTAL_S = 15.0
ANSWER_BYTES = 16 * 1024
AGENT = "Millpond/1"
MAX_DETAIL_CHARS = 300


class RequestFailed(Exception):
    """There is no answer, or not all of what may be read of it.

    Attributes:
        error: what went wrong.
        sent: whether the receiver may have got the request.
    """

    def __init__(self, error: TryError, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.error = error
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        headers: by name in lower case; of several of one name, the first.
        body: its first bytes, as they came.
        whole: whether that is all of it.
    """

    status_code: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a request may take, and how much of its answer is read.

    Attributes:
        connect_s: for resolving and connecting.
        total_s: for everything together, by the wall clock.
        answer_bytes: then the connection is dropped.
    """

    connect_s: float = CONNECT_S
    total_s: float = TOTAL_S
    answer_bytes: int = ANSWER_BYTES


@dataclass(frozen=True, slots=True)
class OutboundClient:
    """What all requests of a process have in common; threads share it.

    Attributes:
        resolver: for names.
        allow_private: as in ``domain.outbound``.
        bounds: of every request.
        tls: who is trusted; the system's authorities unless given.
        judge: by which addresses are judged; ``domain.outbound``'s rule unless given.
    """

    resolver: Resolver
    allow_private: bool = False
    bounds: Bounds = Bounds()
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    judge: Judge | None = None

    def line(self) -> "Line":
        """A connection for one thread, opened at its first request."""
        return Line(self)


class Line:
    """At most one connection; a request to another origin opens a new one, and so does one after an error.

    An address is judged when a connection is made: a name that changes its mind meanwhile changes nothing for the connection that is there.
    """

    def __init__(self, client: OutboundClient) -> None:
        self._client = client
        self._deadline = Deadline()
        self._backend = GuardedBackend(
            resolver=client.resolver,
            judge=client.judge or partial(refuse_address, allow_private=client.allow_private),
            deadline=self._deadline,
            connect_s=client.bounds.connect_s,
            allow_self=client.allow_private,
        )
        self._connection: httpcore.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Drops the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def request(self, method: str, target: Target, *, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Sends one request and reads its answer.

        A connection that was kept may be closed by the other side just as it is used again; then the request is sent once more, on a new one.

        Args:
            method: ``POST``, ``GET``.
            target: as ``parse_url`` gave it.
            headers: beside ``host``, ``content-length``, ``user-agent`` and ``accept-encoding``.
            body: what is sent, if anything.

        Raises:
            RequestFailed: there is no whole answer within the bounds.
        """
        self._deadline.begin(self._client.bounds.total_s)
        kept = self._ready(target)
        request = self._request(method, target, headers, body)
        try:
            return self._exchange(request)
        except (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError) as error:
            self.close()
            if not kept:
                raise _failed(error) from error
        except Exception as error:
            self.close()
            raise _failed(error) from error
        self._ready(target)
        try:
            return self._exchange(request)
        except Exception as error:
            self.close()
            raise _failed(error) from error

    def _ready(self, target: Target) -> bool:
        """Makes sure of a connection; whether it has served before."""
        origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
        connection = self._connection
        if connection is not None and connection.can_handle_request(origin) and connection.is_idle() and not connection.has_expired():
            return True
        self.close()
        self._connection = httpcore.HTTPConnection(origin, ssl_context=self._client.tls, network_backend=self._backend)
        return False

    def _request(self, method: str, target: Target, headers: Mapping[str, str], body: bytes | None) -> httpcore.Request:
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        fields = {"host": target.netloc, "user-agent": AGENT, "accept": "*/*", "accept-encoding": "identity", **headers}
        if body is not None:
            fields["content-length"] = str(len(body))
        return httpcore.Request(method, url, headers=list(fields.items()), content=body)

    def _exchange(self, request: httpcore.Request) -> Answer:
        assert self._connection is not None
        response = self._connection.handle_request(request)
        most = self._client.bounds.answer_bytes
        headers: dict[str, str] = {}
        for name, value in response.headers:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        read = bytearray()
        whole = True
        for part in response.iter_stream():
            read += part
            if len(read) >= most:
                whole = False
                break
        if whole:
            response.close()
        else:
            self.close()
        del read[most:]
        return Answer(response.status, headers, bytes(read), whole)


# The one place where errors of httpcore, h11 and ours become codes: the first row that fits, and whether the receiver may have got the request.
_ERRORS: tuple[tuple[type[Exception], TryError, bool], ...] = (
    (NotResolved, TryError.NAME_NOT_RESOLVED, False),
    (Forbidden, TryError.ADDRESS_FORBIDDEN, False),
    (TlsFailed, TryError.TLS_FAILED, False),
    (httpcore.ConnectError, TryError.CONNECT_FAILED, False),
    (httpcore.ConnectTimeout, TryError.CONNECT_FAILED, False),
    (httpcore.TimeoutException, TryError.TIMEOUT, True),
    (httpcore.NetworkError, TryError.CONNECTION_LOST, True),
    (httpcore.RemoteProtocolError, TryError.BAD_ANSWER, True),
    (OSError, TryError.CONNECTION_LOST, True),
)


def _failed(error: Exception) -> RequestFailed:
    detail = " ".join(str(error).split())[:MAX_DETAIL_CHARS] or type(error).__name__
    if isinstance(error, httpcore.RemoteProtocolError) and "disconnected without" in detail:
        return RequestFailed(TryError.CONNECTION_LOST, "the connection was closed without an answer", sent=True)
    for kind, code, sent in _ERRORS:
        if isinstance(error, kind):
            return RequestFailed(code, detail, sent=sent)
    log.error("a request failed in a way that has no code of its own", exc_info=error)
    return RequestFailed(TryError.CONNECTION_LOST, type(error).__name__, sent=True)
