"""The examples, run as they stand."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from domain.signature import signature_headers
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"job.succeeded","timestamp":"2026-11-23T20:00:00Z","data":{"id":"job_1"}}'


class RunningExample:
    """The receiver, behind a port."""

    def __init__(self, output: Path) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port = probe.getsockname()[1]
        self._output = output
        with output.open("wb") as stream:
            command = [sys.executable, str(EXAMPLES / "webhook_receiver.py"), str(self.port)]
            self.popen = subprocess.Popen(command, cwd="/", env={**os.environ, "MILLPOND_WEBHOOK_SECRET": SECRET}, stdout=stream, stderr=stream)

    def answers(self) -> bool:
        assert self.popen.poll() is None, self.said()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def post(self, body: bytes = BODY, *, secrets: tuple[str, ...] = (SECRET,), sent_at: float | None = None) -> int:
        headers = signature_headers(secrets, message_id="evt_1", timestamp=int(sent_at or time.time()), body=BODY)
        return httpx.post(f"http://127.0.0.1:{self.port}/", content=body, headers=headers).status_code


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningExample]:
    example = RunningExample(tmp_path / "said")
    wait_until(example.answers, 20, what="the receiver listens")
    yield example
    example.popen.kill()
    example.popen.wait()


def test_receiver_takes_what_is_signed(running: RunningExample) -> None:
    assert running.post() == 204
    assert "evt_1 job.succeeded job_1" in running.said()


def test_receiver_takes_what_a_rotating_secret_signs(running: RunningExample) -> None:
    assert running.post(secrets=("whsec_" + "A" * 32, SECRET)) == 204


def test_receiver_refuses_what_is_not_signed_as_it_came(running: RunningExample) -> None:
    assert running.post(BODY + b" ") == 401
    assert running.post(secrets=("whsec_" + "A" * 32,)) == 401
    assert running.post(sent_at=time.time() - 600) == 401
    assert "evt_1" not in running.said()


def test_receiver_is_ten_lines_and_shares_no_code_with_the_project() -> None:
    source = (EXAMPLES / "webhook_receiver.py").read_text(encoding="utf-8")
    handler = source[source.index("class Receiver") : source.index("ThreadingHTTPServer((")]
    assert len([line for line in handler.splitlines() if line.strip()]) <= 10
    for package in ("api", "cli", "domain", "models", "workers"):
        assert f"from {package}" not in source


def test_examples_are_all_in_their_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in readme
