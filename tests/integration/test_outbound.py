"""The client against receivers that misbehave, for real, on loopback sockets; limits are short, so that no test is long."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.delivery import TryError
from domain.outbound import Address, parse_url
from tests.support.receivers import Manner, Receiver, answering, bomb, closing, dripping, endless, hanging, resetting
from tests.support.waiting import wait_until
from workers.outbound.client import Answer, Bounds, Line, OutboundClient, RequestFailed
from workers.outbound.resolver import Lookup, NotResolved, Resolver, look_up

QUICK = Bounds(connect_s=0.8, total_s=1.0)
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def client(lookup: Lookup | None = None, *, allow_private: bool = True, bounds: Bounds = QUICK, **fields: object) -> OutboundClient:
    return OutboundClient(Resolver(threads=4, lookup=lookup), allow_private=allow_private, bounds=bounds, **fields)  # type: ignore[arg-type]


def post(line: Line, url: str, body: bytes = b"{}") -> Answer:
    return line.request("POST", parse_url(url, allow_private=True), headers={"webhook-id": "evt_1"}, body=body)


def failure(url: str, **fields: object) -> RequestFailed:
    """How a request fails; within its limits."""
    began = time.monotonic()
    with client(**fields).line() as line, pytest.raises(RequestFailed) as failed:  # type: ignore[arg-type]
        post(line, url)
    assert time.monotonic() - began < QUICK.total_s + 5.0  # what has no bound waits for ever
    return failed.value


def always(*texts: str) -> Lookup:
    return lambda _host, _port: [ipaddress.ip_address(text) for text in texts]


def test_request_says_who_it_is_for_and_takes_nothing_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver(answering(202, headers={"X-One": "1"}, body=b"thanks")) as receiver, client(always("127.0.0.1")).line() as line:
        answer = post(line, f"http://hooks.example:{receiver.port}/a?b=c", b'{"a": 1}')
    (got,) = receiver.got
    assert (answer.status_code, answer.headers["x-one"], answer.body, answer.whole) == (202, "1", b"thanks", True)
    assert got.line == "POST /a?b=c HTTP/1.1"
    assert got.body == b'{"a": 1}'
    assert got.headers["host"] == f"hooks.example:{receiver.port}"
    assert got.headers["accept-encoding"] == "identity"
    assert got.headers["content-length"] == "8"


def test_get_has_no_body() -> None:
    with Receiver(answering(body=b"file")) as receiver, client().line() as line:
        assert line.request("GET", parse_url(receiver.url, allow_private=True), headers={}).body == b"file"
    assert "content-length" not in receiver.got[0].headers


@pytest.mark.parametrize(
    ("manner", "error"),
    [
        pytest.param(hanging, TryError.TIMEOUT, id="hangs"),
        pytest.param(dripping(b"x"), TryError.TIMEOUT, id="drips its status line"),
        pytest.param(dripping(b"a: b\r\n", first=b"HTTP/1.1 200 OK\r\n"), TryError.TIMEOUT, id="drips headers"),
        pytest.param(dripping(b"HTTP/1.1 102 Wait\r\n\r\n"), TryError.TIMEOUT, id="says wait for ever"),
        pytest.param(dripping(b"x", first=b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"), TryError.TIMEOUT, id="drips its body"),
        pytest.param(dripping(b"1\r\nx\r\n", first=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), TryError.TIMEOUT, id="drips chunks"),
        pytest.param(resetting, TryError.CONNECTION_LOST, id="resets"),
        pytest.param(closing, TryError.CONNECTION_LOST, id="closes"),
        pytest.param(dripping(b"", first=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), TryError.BAD_ANSWER, id="speaks another protocol"),
        pytest.param(dripping(b"", first=b"HTTP/1.1 200 OK\r\na: " + b"x" * 200_000), TryError.BAD_ANSWER, id="has endless headers"),
    ],
)
def test_receiver_that_does_not_answer_in_time_or_at_all_is_cut(manner: Manner, error: TryError) -> None:
    with Receiver(manner) as receiver:
        failed = failure(receiver.url)
    assert (failed.error, failed.sent) == (error, True), failed
    assert len(receiver.got) == 1


def test_receiver_that_does_not_read_is_cut() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listening, client().line() as line, pytest.raises(RequestFailed) as failed:
        post(line, f"http://127.0.0.1:{listening.getsockname()[1]}/", b"x" * (16 << 20))
    assert failed.value.error is TryError.TIMEOUT


@pytest.mark.parametrize("manner", [endless, bomb])
def test_answer_is_read_to_its_bound_and_as_it_came(manner: Manner) -> None:
    with Receiver(manner) as receiver, client(bounds=Bounds(connect_s=5.0, total_s=10.0)).line() as line:  # what it reads is bounded here, not the time
        answer = post(line, receiver.url)
        assert answer.status_code == 200
        assert len(answer.body) <= 16 * 1024
        if manner is bomb:
            assert answer.body.startswith(b"\x1f\x8b")
        assert not answer.whole
        wait_until(lambda: not receiver._open, what="the connection is dropped")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_answer_and_not_followed(status: int) -> None:
    with Receiver() as other, Receiver(answering(status, headers={"location": other.url})) as receiver, client().line() as line:
        assert post(line, receiver.url).status_code == status
        assert not other.got


def test_nobody_listens_is_connect_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    failed = failure(f"http://127.0.0.1:{port}/")
    assert (failed.error, failed.sent) == (TryError.CONNECT_FAILED, False)


def test_first_address_does_not_answer_the_next_is_tried() -> None:
    with Receiver() as receiver, client(always("127.0.0.2", "127.0.0.1")).line() as line:
        assert post(line, f"http://hooks.example:{receiver.port}/").status_code == 200


def test_connect_that_hangs_ends_in_its_own_time() -> None:
    with socket.socket() as listening:  # a full backlog: the kernel drops what comes after
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        failed = failure(f"http://127.0.0.1:{port}/", bounds=Bounds(connect_s=0.3, total_s=5.0))
        for filler in fillers:
            filler.close()
    assert failed.error is TryError.CONNECT_FAILED


# --- names


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("10.0.0.1",),
        ("169.254.169.254",),
        ("8.8.8.8", "10.0.0.1"),
        ("2606:4700::1", "::1"),
        ("8.8.8.8", "::ffff:127.0.0.1"),
        ("64:ff9b::808:808",),
    ],
)
def test_name_of_which_any_address_is_private_is_not_connected_to(addresses: tuple[str, ...]) -> None:
    failed = failure("https://hooks.example/", lookup=always(*addresses), allow_private=False)
    assert (failed.error, failed.sent) == (TryError.ADDRESS_FORBIDDEN, False)


def test_name_that_changes_its_mind_is_judged_by_the_answer_that_is_connected_to() -> None:
    """Rebinding: whoever asks twice gets a public address first and ours then."""
    asked: list[str] = []

    def lookup(host: str, _port: int) -> list[Address]:
        asked.append(host)
        return [ipaddress.ip_address("203.0.114.1" if len(asked) % 2 else "127.0.0.1")]

    judged: list[Address] = []

    def judge(address: Address) -> str | None:
        judged.append(address)
        return "private" if address.is_loopback else None

    with Receiver() as receiver:
        rebinding = client(lookup, allow_private=False, judge=judge, bounds=Bounds(connect_s=0.2, total_s=0.4))
        for _ in range(4):
            with rebinding.line() as line, pytest.raises(RequestFailed) as failed:
                post(line, f"http://hooks.example:{receiver.port}/")
            assert failed.value.error in {TryError.CONNECT_FAILED, TryError.ADDRESS_FORBIDDEN}
    assert len(asked) == len(judged) == 4, "each request asks once, and connects to what was judged"
    assert receiver.connections == 0


def test_address_of_this_machine_itself_is_refused_however_public() -> None:
    with Receiver() as receiver:
        failed = failure(f"http://hooks.example:{receiver.port}/", lookup=always("127.0.0.1"), allow_private=False, judge=lambda _: None)
    assert failed.error is TryError.ADDRESS_FORBIDDEN
    assert "itself" in str(failed)
    assert not receiver.got


@pytest.mark.parametrize("answer", [[], NotResolved("no such name"), OSError("a server's trouble"), RuntimeError("a defect")])
def test_name_without_an_address_is_not_resolved(answer: list[Address] | Exception) -> None:
    def lookup(_host: str, _port: int) -> list[Address]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    failed = failure("https://hooks.example/", lookup=lookup)
    assert (failed.error, failed.sent) == (TryError.NAME_NOT_RESOLVED, False)


def test_resolver_that_hangs_is_left_behind_and_others_are_served() -> None:
    go_on = threading.Event()

    def lookup(host: str, _port: int) -> list[Address]:
        if host.startswith("hangs"):
            go_on.wait(10)
        return [LOOPBACK]

    resolver = Resolver(threads=2, lookup=lookup)
    for _ in range(5):  # the same name five times takes one thread
        with pytest.raises(NotResolved, match="within"):
            resolver.resolve("hangs.example", 443, timeout_s=0.02)
    assert resolver.resolve("works.example", 443, timeout_s=2.0) == [LOOPBACK]
    with pytest.raises(NotResolved):
        resolver.resolve("hangs-too.example", 443, timeout_s=0.02)
    with pytest.raises(NotResolved):
        resolver.resolve("works.example", 443, timeout_s=0.02)
    go_on.set()
    assert resolver.resolve("works.example", 443, timeout_s=2.0) == [LOOPBACK]


def test_resolver_starts_no_more_threads_than_it_may() -> None:
    go_on = threading.Event()

    def lookup(_host: str, _port: int) -> list[Address]:
        go_on.wait(10)
        return [LOOPBACK]

    resolver = Resolver(threads=3, lookup=lookup)
    before = threading.active_count()
    for number in range(10):
        with pytest.raises(NotResolved):
            resolver.resolve(f"{number}.example", 443, timeout_s=0)
    assert threading.active_count() - before <= 3
    go_on.set()


def test_system_resolver_knows_localhost_and_says_when_there_is_no_such_name() -> None:
    assert LOOPBACK in look_up("localhost", 443)
    with pytest.raises(NotResolved):
        look_up("no-such-name.invalid", 443)


# --- connections that are kept


def test_connection_is_kept_for_the_same_origin() -> None:
    with Receiver() as receiver, client().line() as line:
        for _ in range(3):
            post(line, receiver.url)
        assert receiver.connections == 1
        with Receiver() as other:
            post(line, other.url)
            assert other.connections == 1
    assert len(receiver.got) == 3


def test_kept_connection_that_was_closed_is_replaced() -> None:
    def polite_once(connection: socket.socket, request: object) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return False

    with Receiver(polite_once) as receiver, client().line() as line:
        for _ in range(3):
            assert post(line, receiver.url).status_code == 200
        assert receiver.connections == len(receiver.got) == 3


def test_kept_connection_that_breaks_as_it_is_used_again_is_replaced_once() -> None:
    def breaks_at_the_second(connection: socket.socket, request: object) -> bool:
        if len(receiver.got) == 2:
            return resetting(connection, receiver.got[-1])
        return answering()(connection, receiver.got[-1])

    with Receiver(breaks_at_the_second) as receiver, client().line() as line:
        assert [post(line, receiver.url).status_code for _ in range(2)] == [200, 200]
        assert (len(receiver.got), receiver.connections) == (3, 2)


def test_deadline_of_a_kept_connection_begins_anew_with_each_request() -> None:
    def slow(connection: socket.socket, request: object) -> bool:
        threading.Event().wait(0.25)
        return answering()(connection, receiver.got[-1])

    with Receiver(slow) as receiver, client().line() as line:
        assert [post(line, receiver.url).status_code for _ in range(4)] == [200] * 4


# --- TLS


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[ssl.SSLContext, Path]]:
    """Makes a server's certificate, signed by itself, for a name."""

    def make(name: str, *, days: int = 1) -> tuple[ssl.SSLContext, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = tmp_path_factory.mktemp("tls") / "server.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(path)
        return server, path

    return make


@pytest.fixture
def hooks(issue: Callable[..., tuple[ssl.SSLContext, Path]]) -> Iterator[tuple[Receiver, ssl.SSLContext]]:
    """A receiver with a certificate for ``hooks.example``, and a client's context that trusts it."""
    server, path = issue("hooks.example")
    with Receiver(tls=server) as receiver:
        yield receiver, ssl.create_default_context(cafile=str(path))


def test_tls_is_agreed_on_by_name_while_the_connection_is_by_address(hooks: tuple[Receiver, ssl.SSLContext]) -> None:
    receiver, trusting = hooks
    with client(always("127.0.0.1"), tls=trusting).line() as line:
        for _ in range(3):
            assert post(line, f"https://hooks.example:{receiver.port}/").status_code == 200
    assert receiver.connections == 1
    assert {got.headers["host"] for got in receiver.got} == {f"hooks.example:{receiver.port}"}


@pytest.mark.parametrize("name", ["self-signed", "wrong host", "expired", "no TLS"])
def test_tls_that_proves_nothing_is_refused(name: str, hooks: tuple[Receiver, ssl.SSLContext], issue: Callable[..., tuple[ssl.SSLContext, Path]]) -> None:
    receiver, trusting = hooks
    if name == "self-signed":
        failed = failure(f"https://hooks.example:{receiver.port}/", lookup=always("127.0.0.1"))
    elif name == "wrong host":
        failed = failure(f"https://others.example:{receiver.port}/", lookup=always("127.0.0.1"), tls=trusting)
    elif name == "expired":
        server, path = issue("hooks.example", days=-1)
        with Receiver(tls=server) as late:
            failed = failure(f"https://hooks.example:{late.port}/", lookup=always("127.0.0.1"), tls=ssl.create_default_context(cafile=str(path)))
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def answer_plainly() -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(65_536)

            thread = threading.Thread(target=answer_plainly, daemon=True)
            thread.start()
            failed = failure(f"https://hooks.example:{listening.getsockname()[1]}/", lookup=always("127.0.0.1"), tls=trusting)
            thread.join(5)
    assert (failed.error, failed.sent) == (TryError.TLS_FAILED, False), failed
    assert not receiver.got


def test_tls_that_is_dripped_is_cut() -> None:
    """A handshake of which a byte arrives now and then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                for byte in b"\x16\x03\x03\x40\x00" + b"x" * 1_000:
                    if stop.wait(0.05):
                        return
                    try:
                        connection.sendall(bytes([byte]))
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        failed = failure(f"https://hooks.example:{listening.getsockname()[1]}/", lookup=always("127.0.0.1"))
        stop.set()
        thread.join(5)
    assert failed.error is TryError.TIMEOUT
