"""``millpond listen`` as a developer runs it: a process between an API and a receiver, ended by Ctrl-C."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from standardwebhooks import Webhook

from tests.support.receivers import Receiver, answering, closing
from tests.support.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(number: int) -> dict[str, Any]:
    return {"id": f"evt_{number}", "type": "job.succeeded", "timestamp": "2026-11-23T20:00:00Z", "data": {"id": f"job_{number}", "cost": 0.1, "é": None}}


class Feed(ThreadingHTTPServer):
    """An API that has a feed and nothing else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FeedHandler)
        self.events: list[dict[str, Any]] = [event(1), event(2)]
        self.away = False
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def page(self, after: str | None) -> dict[str, Any]:
        ids = [each["id"] for each in self.events]
        if after == "newest":
            return {"data": [], "next_cursor": ids[-1] if ids else None}
        found = self.events[ids.index(after) + 1 if after else 0 :][:2]
        return {"data": found, "next_cursor": found[-1]["id"] if found else after}


class FeedHandler(BaseHTTPRequestHandler):
    server: Feed

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.away:
            status, content = 503, {"code": "service_unavailable", "detail": "The database is away.", "retryable": True}
        else:
            status, content = 200, self.server.page(parse_qs(urlsplit(self.path).query).get("after", [None])[0])
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Feed() as feed:
        thread = threading.Thread(target=feed.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield feed
        feed.shutdown()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(answering(204)) as receiver:
        yield receiver


class Listening:
    """A running `millpond listen`."""

    def __init__(self, feed: Feed, receiver: Receiver, output: Path, *options: str) -> None:
        self._output = output
        command = [sys.executable, "-m", "cli.main", "listen", "--forward-to", receiver.url, "--url", feed.url, "--key", "k", *options]
        with output.open("wb") as stream:
            self.popen = subprocess.Popen(command, cwd=PROJECT, stdout=stream, stderr=subprocess.STDOUT, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def waits(self) -> None:
        """Until it has asked where the feed ends, and for what follows."""
        wait_until(lambda: "Sending to" in self.said() or self.popen.poll() is not None, 30, what="listen begins")
        assert self.popen.poll() is None, self.said()

    def ctrl_c(self) -> None:
        self.popen.send_signal(signal.SIGINT)
        assert self.popen.wait(10) == 0, self.said()


Start = Callable[..., Listening]


@pytest.fixture
def listen(feed: Feed, receiver: Receiver, tmp_path: Path) -> Iterator[Start]:
    started: list[Listening] = []

    def start(*options: str) -> Listening:
        started.append(Listening(feed, receiver, tmp_path / f"said-{len(started)}", *options))
        started[-1].waits()
        return started[-1]

    yield start
    for each in started:
        each.popen.kill()
        each.popen.wait()


def received(receiver: Receiver, count: int) -> list[str]:
    wait_until(lambda: len(receiver.got) >= count, 20, what=f"{count} events arrive")
    return [request.id for request in receiver.got]


def test_listen_sends_what_happens_from_now_on_signed_by_the_secret_that_it_prints(feed: Feed, receiver: Receiver, listen: Start) -> None:
    listening = listen()
    feed.events += [event(3), event(4), event(5)]
    assert received(receiver, 3) == ["evt_3", "evt_4", "evt_5"]
    secret = listening.said().split()[2]
    for request, number in zip(receiver.got, (3, 4, 5), strict=True):
        said = event(number)
        del said["id"]
        assert Webhook(secret).verify(request.body, request.headers) == said
        assert (request.line, request.headers["content-type"]) == ("POST /hook HTTP/1.1", "application/json")
    wait_until(lambda: listening.said().count("204") == 3, what="it says what came of them")
    listening.ctrl_c()
    lines = [line.split() for line in listening.said().splitlines() if line.startswith("job.")]
    assert [line[:4] for line in lines] == [["job.succeeded", f"evt_{number}", f"job_{number}", "204"] for number in (3, 4, 5)]
    assert "Aborted" not in listening.said()
    assert "Traceback" not in listening.said()


def test_listen_after_an_event_begins_with_the_next(feed: Feed, receiver: Receiver, listen: Start) -> None:
    listening = listen("--after", "evt_1", "--secret", SECRET)
    assert received(receiver, 1) == ["evt_2"]
    Webhook(SECRET).verify(receiver.got[0].body, receiver.got[0].headers)
    listening.ctrl_c()


def test_listen_before_anything_has_happened_sends_the_first_event(feed: Feed, receiver: Receiver, listen: Start) -> None:
    feed.events.clear()
    listen()
    feed.events.append(event(7))
    assert received(receiver, 1) == ["evt_7"]


def test_listen_waits_for_a_receiver_that_is_down_and_loses_nothing(feed: Feed, receiver: Receiver, listen: Start) -> None:
    receiver.manner = closing
    listening = listen()
    feed.events += [event(3), event(4)]
    assert received(receiver, 2) == ["evt_3", "evt_3"]
    assert listening.said().count("no answer") == 1
    receiver.manner = answering(200)
    wait_until(lambda: receiver.got[-1].id == "evt_4", 20, what="the last event arrives")
    wait_until(lambda: listening.said().count("200 ") == 2, what="it says what came of them")


def test_listen_shows_what_a_receiver_refuses_and_goes_on(feed: Feed, receiver: Receiver, listen: Start) -> None:
    receiver.manner = answering(500)
    listening = listen()
    feed.events += [event(3), event(4)]
    assert received(receiver, 2) == ["evt_3", "evt_4"]
    wait_until(lambda: listening.said().count("500") == 2, what="it says what came of them")


def test_listen_waits_while_the_api_is_away(feed: Feed, receiver: Receiver, listen: Start) -> None:
    listening = listen()
    feed.away = True
    wait_until(lambda: "The database is away." in listening.said(), what="it says that the API is away")
    feed.events.append(event(3))
    asked = len(feed.asked)
    wait_until(lambda: len(feed.asked) > asked + 1, what="it asks again")
    feed.away = False
    assert received(receiver, 1) == ["evt_3"]
    assert listening.said().count("The database is away.") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--forward-to", "localhost:3000"], "--forward-to"),
        (["--forward-to", "ftp://localhost/"], "--forward-to"),
        (["--forward-to", "http://[::1/"], "--forward-to"),
        (["--forward-to", "http://127.0.0.1:1/", "--secret", "whsec_?"], "--secret"),
        ([], "--forward-to"),
    ],
)
def test_listen_bad_options_are_told_before_anything_is_asked(feed: Feed, options: list[str], words: str) -> None:
    command = [sys.executable, "-m", "cli.main", "listen", "--url", feed.url, "--key", "k", *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, feed.asked) == (2, [])
    assert words in done.stderr
    assert "whsec_?" not in done.stderr
