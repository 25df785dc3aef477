"""The API as a process behind a socket: what the server itself does with clients, good and bad, and with signals."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from api.silence import LOOK_S, SILENT_S, STALLED_S
from domain.ids import Prefix, decode
from models.transactions import make_engine
from tests.support.jobs import claim, run_sql, succeed
from tests.support.rigs import Rig, rig_of
from tests.support.waiting import wait_until

KEY = "server-tests-key"
HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n".encode()
JSON = b"Content-Type: application/json\r\n"
ECHO = b'{"task":"debug.echo","input":{"payload":1}}'
STALLS = b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: 100\r\n\r\n" + ECHO


@dataclass(frozen=True)
class Served:
    """A running API."""

    process: "subprocess.Popen[str]"
    port: int
    engine: Engine

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(10)
        return connection

    def exchange(self, request: bytes, *, half_close: bool = False) -> tuple[int, bytes]:
        """Sends raw bytes on a connection of their own; status and all that came back."""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)


def post(body: bytes = ECHO, *, extra: bytes = b"") -> bytes:
    return b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """One answer with a Content-Length, or whatever came until the other side closed."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65_536)
        if not piece:
            break
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        piece = connection.recv(65_536)
        if not piece:
            break
        body += piece
    return int(head.split()[1]), body


@contextmanager
def serving(database_url: str, log: Path, **settings: str) -> Iterator[Served]:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILLPOND_")},
        "MILLPOND_DATABASE_URL": database_url,
        "MILLPOND_BROKER_URL": "amqp://guest:guest@127.0.0.1:1//",  # nobody is there: the API must not mind
        "MILLPOND_BOOTSTRAP_KEY": KEY,
        "MILLPOND_PORT": str(port),
        "MILLPOND_API_THREADS": "40",
        **{f"MILLPOND_{name.upper()}": value for name, value in settings.items()},
    }
    engine = make_engine(database_url, pool_size=2)
    with (
        log.open("w") as written,
        subprocess.Popen([sys.executable, "-m", "cli.main", "api"], env=environment, stdout=written, stderr=written, text=True) as process,
    ):
        served = Served(process, port, engine)
        try:
            wait_until(lambda: process.poll() is not None or _answers(port), 60, what="the API answers")
            assert process.poll() is None, log.read_text()
            yield served
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)
            engine.dispose()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return b" 200 " in connection.recv(4_096)
    except OSError:
        return False


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, rigs: Callable[[str], Rig], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with rigs(rig_of(request.node)).database() as url, serving(url, tmp_path_factory.mktemp("api") / "log") as served:
        yield served


def test_server_takes_work_while_the_broker_is_away(served: Served) -> None:
    with closing(served.connect()) as connection:  # all on one connection
        for _ in range(20):
            connection.sendall(post())
            status, body = read_answer(connection)
            assert (status, json.loads(body)["status"]) == (202, "queued")


def test_server_takes_a_body_in_chunks(served: Served) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in ECHO) + b"0\r\n\r\n"
    status, body = served.exchange(b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (status, json.loads(body)["input"]) == (202, {"payload": 1})


REFUSED: list[tuple[str, bytes, bool, int, str]] = [
    ("chunks over 1 MiB", b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 17 + b"0\r\n\r\n", False, 413, "body_too_large"),
    ("length over 1 MiB, nothing sent", b"Content-Length: 1048577\r\n\r\n", False, 413, "body_too_large"),
    ("shorter than its length", b"Content-Length: 100\r\n\r\n" + ECHO, True, 400, "incomplete_body"),
]


@pytest.mark.parametrize(("rest", "half_close", "status", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_server_refuses_bodies_that_are_too_large_or_break_off(served: Served, rest: bytes, half_close: bool, status: int, code: str) -> None:
    got, body = served.exchange(b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + rest, half_close=half_close)
    assert (got, json.loads(body)["code"]) == (status, code)


@pytest.mark.parametrize("path", [b"/healthz", b"/v1/jobs"])
@pytest.mark.parametrize("headers", [b"X-Long: " + b"a" * 20_000 + b"\r\n", b"".join(b"X-%d: %b\r\n" % (number, b"a" * 500) for number in range(40))])
def test_server_refuses_headers_over_16_kib_in_problem_details(served: Served, path: bytes, headers: bytes) -> None:
    status, body = served.exchange(b"GET " + path + b" HTTP/1.1\r\n" + HEAD + headers + b"\r\n")
    assert (status, json.loads(body)["code"]) == (431, "header_too_large")


BELOW_HTTP: list[tuple[str, bytes, int]] = [
    ("garbage", b"GARBAGE\r\n\r\n", 400),
    ("no version", b"GET /\r\n\r\n", 400),
    ("100 KiB header", b"GET /healthz HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 102_400 + b"\r\n\r\n", 431),
    ("200 headers", b"GET /healthz HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n", 431),
    ("20 KiB URL", b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
    ("length is no number", b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: x\r\n\r\n", 400),
    ("negative length", b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: -1\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_bytes", "status"), [row[1:] for row in BELOW_HTTP], ids=[row[0] for row in BELOW_HTTP])
def test_server_refuses_what_is_not_http(served: Served, request_bytes: bytes, status: int) -> None:
    assert served.exchange(request_bytes)[0] == status
    assert _answers(served.port)


def test_server_streams_events_as_they_happen(served: Served) -> None:
    job = json.loads(served.exchange(post())[1])
    job_id = decode(Prefix.JOB, job["id"])
    assert job_id is not None
    with closing(served.connect()) as connection:
        connection.sendall(b"GET /v1/jobs/%b/events HTTP/1.1\r\n" % job["id"].encode() + HEAD + b"Accept: text/event-stream\r\n\r\n")
        got = b""

        def has(words: bytes) -> None:
            nonlocal got
            while words not in got:
                got += connection.recv(65_536)

        has(b"id: 1\n")
        claimed = claim(served.engine, job_id)
        has(b"id: 2\n")
        succeed(served.engine, claimed)
        has(b"event: completed\n")
    assert b"text/event-stream" in got


def test_server_clients_that_leave_free_their_places(served: Served) -> None:
    """40 threads, 30 places for waits: clients that follow a job and hang up give them back with the next heartbeat."""
    job = json.loads(served.exchange(post())[1])
    follow = b"GET /v1/jobs/%b/events HTTP/1.1\r\n" % job["id"].encode() + HEAD + b"Accept: text/event-stream\r\n\r\n"

    def status() -> int:
        with closing(served.connect()) as connection:
            connection.sendall(follow)
            return int(connection.recv(65_536).split()[1])

    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(closing(served.connect())).sendall(follow)
        wait_until(lambda: status() == 503, 20, what="all places are taken", every_s=0.2)
        started = time.monotonic()
        assert served.exchange(post())[0] == 202  # nobody else is held up
        assert time.monotonic() - started < 5
    wait_until(lambda: status() == 200, 40, what="a place is free again", every_s=0.5)


def test_server_bodies_that_stall_beside_a_busy_stream_leave_threads_for_the_others(served: Served) -> None:
    """40 threads: six bodies are waited for, the rest of 60 is refused; whatever needs no body is answered, and all is well once they are gone."""
    ended = threading.Event()

    def submits() -> set[int]:
        statuses = set()
        with closing(served.connect()) as connection:
            while not ended.is_set():
                connection.sendall(post())
                statuses.add(read_answer(connection)[0])
        return statuses

    with ThreadPoolExecutor(4) as pool, ExitStack() as stack:
        stream = [pool.submit(submits) for _ in range(4)]
        stack.callback(ended.set)
        stalled = [stack.enter_context(closing(served.connect())) for _ in range(60)]
        for connection in stalled:
            connection.sendall(b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Content-Length: 100\r\n\r\n")
        wait_until(lambda: len(select.select(stalled, [], [], 0)[0]) >= 60 - 6, 15, what="most are answered")
        assert _answers(served.port)
        assert {read_answer(connection)[0] for connection in select.select(stalled, [], [], 0)[0]} == {503}
        ended.set()
        assert set.union(*(each.result() for each in stream)) <= {202, 503}
    wait_until(lambda: served.exchange(post())[0] == 202)  # once the server knows that they are gone


@pytest.mark.slow
def test_server_gives_up_a_body_whose_client_is_silent_and_goes_on(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(STALLS)
        connection.settimeout(STALLED_S + 2 * LOOK_S)
        status, body = read_answer(connection)
        assert (status, json.loads(body)["code"]) == (400, "incomplete_body")
        assert served.exchange(post())[0] == 202  # while the client is still there


@pytest.mark.slow
def test_server_that_gives_up_a_body_lets_a_wait_that_is_as_silent_have_its_answer(served: Served) -> None:
    with closing(served.connect()) as stalls, closing(served.connect()) as waits:
        waits.sendall(post(extra=b"Prefer: wait=35\r\n"))
        stalls.sendall(STALLS)
        waits.settimeout(35 + LOOK_S)
        assert read_answer(waits)[0] == 202
        stalls.settimeout(STALLED_S + 2 * LOOK_S)
        assert read_answer(stalls)[0] == 400


@pytest.mark.slow
def test_server_gives_up_a_body_that_was_asked_for_and_never_came(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\n" + HEAD + JSON + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.settimeout(SILENT_S + 2 * LOOK_S)
        assert read_answer(connection)[0] == 400


def test_server_told_to_stop_answers_held_requests_and_ends(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path / "log") as served:
        held = [served.connect() for _ in range(20)]
        for connection in held:
            connection.sendall(post(extra=b"Prefer: wait=60\r\nConnection: close\r\n"))
        wait_until(lambda: _jobs(served.engine) == 20, 20)
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert [read_answer(connection)[0] for connection in held] == [202] * 20
        assert served.process.wait(10) == 0
        assert time.monotonic() - started < 7
        for connection in held:
            connection.close()


def _jobs(engine: Engine) -> int:

    return int(run_sql(engine, "SELECT count(*) AS n FROM jobs")[0].n)


def test_server_whose_main_process_is_killed_leaves_nobody_behind(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path / "log") as served:
        children = psutil.Process(served.process.pid).children(recursive=True)
        assert children
        served.process.kill()
        served.process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=15)
        assert alive == []
        assert not _answers(served.port)


def test_api_without_a_key_makes_one_and_prints_it_once(database_url: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with serving(database_url, first, bootstrap_key="", environment="production", log_format="json"):  # as compose starts it
        (line,) = [line for line in first.read_text().splitlines() if "mp_" in line]
    key = line.removeprefix("The first API key, shown this once: ")
    with serving(database_url, second, bootstrap_key="") as served:
        assert "mp_" not in second.read_text()
        request = b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
        assert served.exchange(request % key.encode())[0] == 200
        assert served.exchange(request % b"mp_another")[0] == 401


def test_api_on_a_database_without_schema_says_what_to_run(empty_database_url: str) -> None:
    environment = {**os.environ, "MILLPOND_DATABASE_URL": empty_database_url, "MILLPOND_BROKER_URL": "amqp://x"}
    done = subprocess.run([sys.executable, "-m", "cli.main", "api"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "`millpond migrate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_server_port_in_use_is_a_clear_message(served: Served, database_url: str) -> None:
    environment = {**os.environ, "MILLPOND_DATABASE_URL": database_url, "MILLPOND_BROKER_URL": "amqp://x", "MILLPOND_PORT": str(served.port)}
    done = subprocess.run([sys.executable, "-m", "cli.main", "api"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert str(served.port) in done.stderr
    assert "MILLPOND_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bootstrap_key": "short"}, "MILLPOND_BOOTSTRAP_KEY"),
        ({"bootstrap_key": "mp_mistyped"}, "MILLPOND_BOOTSTRAP_KEY"),
        ({"bootstrap_key": "good-in-development", "environment": "production"}, "32 characters"),
        ({"broker_url": ""}, "MILLPOND_BROKER_URL"),
        ({"secret_keys": "nonsense"}, "MILLPOND_SECRET_KEYS: sealing key 1 is not 32 bytes"),
        ({"public_url": "mill.example"}, "MILLPOND_PUBLIC_URL"),
        ({"public_url": "https://mill.example/?a=b"}, "MILLPOND_PUBLIC_URL"),
    ],
)
def test_api_command_wrong_settings_name_the_key(database_url: str, settings: dict[str, str], words: str) -> None:
    given = {
        "MILLPOND_DATABASE_URL": database_url,
        "MILLPOND_BROKER_URL": "amqp://x",
        **{f"MILLPOND_{name.upper()}": value for name, value in settings.items()},
    }
    done = subprocess.run([sys.executable, "-m", "cli.main", "api"], env={**os.environ, **given}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
