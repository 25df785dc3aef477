import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.inspection import BrokerKind
from cli.doctor import Finding, Level, consumer_timeout, examine, longest_in_worker_s
from cli.main import _COMMANDS, main
from cli.show import table
from domain.catalogue import Catalogue, parse_catalogue
from settings import QueueType, load_catalogue, load_settings


class FakeApi(ThreadingHTTPServer):
    """Remembers requests and gives the next answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.answer: tuple[int, bytes] = (200, b"{}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FakeApi

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": json.loads(body) if body else None})
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = respond  # noqa: N815 - as http.server calls them

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def api() -> Iterator[FakeApi]:
    server = FakeApi()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str, environment: dict[str, str] | None = None, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environment or {}, input=stdin, prog_name="millpond")


def ask(api: FakeApi, *arguments: str, stdin: str | None = None) -> Result:
    return run(*arguments, environment={"MILLPOND_URL": api.url, "MILLPOND_KEY": "test-key"}, stdin=stdin)


# --- the group


def test_cli_help_lists_every_command_and_imports_none() -> None:
    code = "import sys; sys.argv = ['millpond', '--help']\nfrom cli.main import main\ntry: main()\nexcept SystemExit: print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in _COMMANDS:
        assert f"  {name} " in done.stdout
    loaded = set(done.stdout.rsplit("\n", 2)[-2].split())
    assert not loaded & {"sqlalchemy", "pydantic", "celery", "kombu", "flask", "httpx", "structlog", "rich"}


def test_processes_of_a_platform_import_no_more_than_they_need() -> None:
    """Each of them is started once for all; what it imports is time at every start, and memory as long as it runs."""
    code = "import sys, cli.main, cli.commands.api, cli.commands.maintenance, models.queries.keys\nprint(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)

    assert not {"alembic", "celery", "flask", "httpx", "sentry_sdk"} & set(done.stdout.split())


def test_cli_every_command_of_the_table_is_there() -> None:
    folder = Path(__file__).parents[2] / "cli" / "commands"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(_COMMANDS)


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_cli_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert "Usage: millpond " + name in done.output


def test_cli_unknown_command_is_a_usage_error() -> None:
    done = run("dance")
    assert done.exit_code == 2
    assert "No such command 'dance'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["migrate"], {}, "MILLPOND_DATABASE_URL"),
        (["migrate"], {"MILLPOND_DATABASE_URL": "mysql://x"}, "MILLPOND_DATABASE_URL: must start with"),
        (["webhooks"], {}, "MILLPOND_SECRET_KEYS: must be set"),
        (["webhooks"], {"MILLPOND_SECRET_KEYS": "short"}, "MILLPOND_SECRET_KEYS: sealing key 1 is not 32 bytes"),
        (["maintenance"], {"MILLPOND_CATALOGUE": "/nowhere.toml"}, "MILLPOND_CATALOGUE: /nowhere.toml cannot be read"),
        (["get", "job_1"], {"MILLPOND_PORT": "none"}, "MILLPOND_PORT"),
        (["get", "job_1"], {}, "MILLPOND_KEY"),
    ],
)
def test_cli_wrong_configuration_is_one_message_and_exit_code_2(arguments: list[str], environment: dict[str, str], words: str, tmp_path: Path) -> None:
    done = run(*arguments, environment={"MILLPOND_STATE_DIR": str(tmp_path), **environment})
    assert done.exit_code == 2
    assert done.stderr.startswith("millpond: ")
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_cli_database_that_does_not_answer_is_one_message_and_exit_code_1() -> None:
    done = run("migrate", environment={"MILLPOND_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/x"})
    assert done.exit_code == 1
    assert "the database does not answer" in done.stderr
    assert "hidden" not in done.output


# --- talking to the API


def test_submit_sends_what_was_asked_for(api: FakeApi) -> None:
    api.answer = (202, b'{"id": "job_1", "status": "queued"}')
    arguments = ["--input", '{"text": "x"}', "--model", "vader", "--priority", "flex", "--max-attempts", "2", "--metadata", "a=b=c", "--wait", "5"]
    done = ask(api, "submit", "text.sentiment", *arguments, "--idempotency-key", "k")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"id": "job_1", "status": "queued"}
    (seen,) = api.seen
    assert (seen["method"], seen["path"]) == ("POST", "/v1/jobs")
    assert seen["body"] == {"task": "text.sentiment", "input": {"text": "x"}, "model": "vader", "priority": "flex", "max_attempts": 2, "metadata": {"a": "b=c"}}
    headers = seen["headers"]
    assert (headers["Authorization"], headers["Prefer"], headers["Idempotency-Key"]) == ("Bearer test-key", "wait=5", "k")


def test_submit_reads_the_input_from_a_file_or_standard_input(api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text('{"from": "file"}')
    ask(api, "submit", "t", "--input", f"@{path}")
    ask(api, "submit", "t", "--input", "-", stdin='{"from": "stdin"}')
    assert [seen["body"]["input"] for seen in api.seen] == [{"from": "file"}, {"from": "stdin"}]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["--input", "{"], 1, "--input: "),
        (["--input", "@/nowhere.json"], 1, "/nowhere.json cannot be read"),
        (["--input", "1", "--metadata", "x"], 2, "KEY=VALUE"),
        (["--input", "1", "--priority", "urgent"], 2, "'urgent' is not one of"),
        (["--input", "1", "--wait", "61"], 2, "--wait"),
        ([], 2, "--input"),
    ],
)
def test_submit_bad_arguments_are_told_before_anything_is_sent(api: FakeApi, arguments: list[str], exit_code: int, words: str) -> None:
    done = ask(api, "submit", "t", *arguments)
    assert done.exit_code == exit_code
    assert words in done.stderr
    assert api.seen == []


def test_get_and_cancel_name_the_job(api: FakeApi) -> None:
    assert ask(api, "get", "job_1", "--wait", "3").exit_code == 0
    assert ask(api, "cancel", "job_1").exit_code == 0
    assert [(seen["method"], seen["path"], seen["headers"].get("Prefer")) for seen in api.seen] == [
        ("GET", "/v1/jobs/job_1", "wait=3"),
        ("POST", "/v1/jobs/job_1/cancel", None),
    ]


def test_problem_is_shown_with_every_field(api: FakeApi) -> None:
    errors = [{"pointer": "/input/text", "code": "required", "message": "must be given"}]
    api.answer = (422, json.dumps({"code": "validation_failed", "detail": "The request does not validate.", "errors": errors, "retry_after_s": 2.0}).encode())
    done = ask(api, "get", "job_1")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "millpond: The request does not validate. (validation_failed, 422)",
        "  /input/text: must be given",
        "  try again in 2 s",
    ]


def test_problem_of_the_server_names_the_request(api: FakeApi) -> None:
    api.answer = (500, b'{"code": "internal", "title": "Internal error", "request_id": "r-1"}')
    assert "request id r-1" in ask(api, "get", "job_1").stderr


@pytest.mark.parametrize("answer", [b"<html>", b"[1]"])
def test_answer_of_something_else_is_told_as_such(api: FakeApi, answer: bytes) -> None:
    api.answer = (404, answer)
    done = ask(api, "get", "job_1")
    assert done.exit_code == 1
    assert "answered 404" in done.stderr


def test_api_that_does_not_run_says_how_to_start_it() -> None:
    done = run("get", "job_1", "--url", "http://127.0.0.1:1", "--key", "k")
    assert done.exit_code == 1
    assert "millpond up" in done.stderr


def test_key_of_the_state_folder_is_used(api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "bootstrap_key").write_text("from-the-folder\n")
    run("get", "job_1", environment={"MILLPOND_URL": api.url, "MILLPOND_STATE_DIR": str(tmp_path)})
    assert api.seen[0]["headers"]["Authorization"] == "Bearer from-the-folder"


def test_queues_are_a_table_with_lanes_inside(api: FakeApi) -> None:
    lane = {"priority": "flex", "queued": 3, "running": 0, "oldest_queued_s": 1.25}
    api.answer = (200, json.dumps({"data": [{"pool": "text", "queued": 3, "running": 1, "oldest_queued_s": None, "workers": 2, "lanes": [lane]}]}).encode())
    done = ask(api, "queues")
    head, pool, inside = done.stdout.splitlines()
    assert head.split()[:3] == ["pool", "queued", "running"]
    assert pool.split()[:4] == ["text", "3", "1", "-"]
    assert inside.split()[:4] == ["flex", "3", "0", "1.2"]
    assert json.loads(ask(api, "queues", "text", "--json").stdout)["data"]
    assert api.seen[-1]["path"] == "/v1/queues/text"


def test_table_has_columns_as_wide_as_they_must_be() -> None:
    assert table(["a", "count"], [["long name", 1], ["b", None]]) == "a          count\nlong name      1\nb              -"


# --- doctor


def test_doctor_nothing_runs_says_what_to_do_for_each(tmp_path: Path) -> None:
    done = run("doctor", environment={"MILLPOND_STATE_DIR": str(tmp_path)})
    assert done.exit_code == 1
    for line in ("fail database: ", "fail broker: ", "fail redis: ", "run `millpond up`", "run `millpond models pull minilm-l6`"):
        assert line in done.stdout


def test_doctor_servers_that_refuse_are_findings_and_no_password_is_shown(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "state_dir": tmp_path,
            "database_url": "postgresql://u:hidden@127.0.0.1:1/x",
            "broker_url": "amqp://u:hidden@127.0.0.1:1//",
            "redis_url": "redis://:hidden@127.0.0.1:1/0",
        }
    )
    findings = {finding.what: finding for finding in examine(settings, load_catalogue(settings))}
    assert [findings[what].level for what in ("database", "broker", "redis")] == [Level.FAIL, Level.FAIL, Level.WARN]
    assert "hidden" not in str(findings)


def test_doctor_port_taken_by_something_else_fails(api: FakeApi, tmp_path: Path) -> None:
    settings = load_settings({"state_dir": tmp_path, "port": api.server_address[1]})
    (finding,) = [finding for finding in examine(settings, load_catalogue(settings)) if finding.what == "api"]
    assert (finding.level, "something else answers" in finding.says) == (Level.FAIL, True)


def catalogue_with(**model: object) -> Catalogue:
    return parse_catalogue(
        {
            "pools": {"p": {}},
            "tasks": {"debug.echo": {"contract": "domain.task_types.debug_echo", "default_model": "m", "timeout_s": 10, "max_timeout_s": 100}},
            "models": {"m": {"task": "debug.echo", "pool": "p", "backend": "workers.backends.echo:Echo", "version": "1", **model}},
        }
    )


@pytest.mark.parametrize(
    ("limits", "batches", "micro_batches"),
    [
        ({"max_batch_size": 1}, 3 * 1 + 1, 1),
        ({"max_batch_size": 4}, 3 * 2 + 1, 1),
        ({"max_batch_size": 64}, 3 * 2 + 1, 1),
        ({"max_batch_size": 1, "max_batch_items": 10}, 3 * 1 + 1, 1),
        ({"max_batch_size": 64, "max_batch_items": 256}, 3 * 2 + 1, 64),
    ],
)
def test_doctor_longest_stay_counts_the_micro_batches_of_all_that_is_buffered_in_all_lanes(limits: dict[str, int], batches: int, micro_batches: int) -> None:
    catalogue = catalogue_with(**limits)
    assert longest_in_worker_s(catalogue) == (batches * micro_batches * 10, "p")
    assert longest_in_worker_s(catalogue, at_most=True) == (batches * micro_batches * 100, "p")


@pytest.fixture
def rabbitmqctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `rabbitmqctl` that answers what is written beside it."""
    tool = tmp_path / "rabbitmqctl"
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {tmp_path}/answer\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "answer"


def consumer_timeout_of(url: str, *, version: str = "3.13.7") -> Finding:
    """With a catalogue whose messages stay 40 s at most, 400 s if every job asks for its longest."""
    return consumer_timeout(url, BrokerKind("RabbitMQ", version), QueueType.CLASSIC, catalogue_with())


@pytest.mark.parametrize("url", ["amqp://guest:guest@127.0.0.1:5672//", "amqp://localhost/mill", "amqp://[::1]:5672//", "amqp://"])
def test_doctor_consumer_timeout_of_a_broker_on_this_machine_is_asked(rabbitmqctl: Path, url: str) -> None:
    rabbitmqctl.write_text("{ok,40000}")
    short = consumer_timeout_of(url)
    rabbitmqctl.write_text("{ok,41000}")
    enough = consumer_timeout_of(url)
    rabbitmqctl.write_text("undefined")
    none = consumer_timeout_of(url)

    assert (short.level, "is 40 s; by the tasks' time-outs, a message can stay 40 s in a worker of p" in short.says) == (Level.WARN, True)
    assert (enough.level, "400 s" in enough.says) == (Level.OK, True)
    assert (none.level, none.says) == (Level.OK, "none for these queues")


@pytest.mark.parametrize("url", ["amqp://guest:guest@rabbitmq:5672//", "amqps://10.0.0.7/mill", "amqp://127.0.0.1.example/"])
def test_doctor_consumer_timeout_of_a_broker_elsewhere_is_not_asked_of_the_local_one(rabbitmqctl: Path, url: str) -> None:
    rabbitmqctl.write_text("{ok,41000}")
    found = consumer_timeout_of(url)
    assert (found.level, "was not asked" in found.says, "above 40000 (milliseconds)" in found.do) == (Level.WARN, True, True)


def test_doctor_consumer_timeout_without_rabbitmqctl_is_no_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = consumer_timeout_of("amqp://127.0.0.1//")
    assert (found.level, "was not asked" in found.says, "above 40000 (milliseconds)" in found.do) == (Level.WARN, True, True)


def test_doctor_consumer_timeout_that_rabbitmq_no_longer_has_is_none() -> None:
    assert consumer_timeout_of("amqp://rabbitmq//", version="4.3.0").says == "none for these queues"
