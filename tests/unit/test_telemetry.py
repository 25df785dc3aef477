import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from domain.failures import ModelError
from telemetry.errors import configure_sentry
from telemetry.logs import configure_logging
from telemetry.redaction import REDACTED, is_private, redact, redact_text

CANARY = "canary-7f3a"
DSN = "https://public@sentry.invalid/1"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class LocalTransport(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events.extend(json.loads(item.get_bytes()) for item in envelope.items)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    """What would be sent to Sentry."""
    transport = LocalTransport()
    configure_logging("INFO", "json", stream=io.StringIO())
    configure_sentry(DSN, "production", "1.0", transport=transport)
    yield transport.events
    sentry_sdk.get_client().close()
    sentry_sdk.init()


# --- redaction


@pytest.mark.parametrize(
    "name", ["password", "api_key", "Authorization", "client_secret", "key", "x-api-key", "access_token", "input", "output_json", "prompt"]
)
def test_redaction_private_fields_by_name(name: str) -> None:
    assert is_private(name)
    assert redact({"deep": [{name: CANARY}]}) == {"deep": [{name: REDACTED}]}


@pytest.mark.parametrize("name", ["key_id", "input_tokens", "output_tokens", "keyboard", "model", "texts_seen", "error", "jobs"])
def test_redaction_leaves_what_tells_nothing(name: str) -> None:
    assert not is_private(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:pw@host:5432/db", f"postgresql://user:{REDACTED}@host:5432/db"),
        ("redis://:p@ss@host/0 failed", f"redis://:{REDACTED}@host/0 failed"),
        ("https://host/path", "https://host/path"),
        ("mp_Abcd1234_" + "x" * 49, "mp_Abcd1234_…"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {REDACTED}"),
        ("at 12:30 user@example.com", "at 12:30 user@example.com"),
    ],
)
def test_redaction_of_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected


# --- logs


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_logs_hold_no_secret_and_no_content_whoever_writes_them(log_format: str) -> None:
    stream = io.StringIO()
    configure_logging("INFO", log_format, stream=stream)
    log = structlog.get_logger("millpond.test")
    log.info("ours", url=f"amqp://user:{CANARY}@host//", key=CANARY, input={"text": CANARY}, nested=[{"secret": CANARY}], shown="visible")
    logging.getLogger("library").warning("theirs %s", f"redis://:{CANARY}@host/0")
    try:
        raise ValueError(f"postgresql://u:{CANARY}@host/db")  # noqa: TRY301
    except ValueError as error:
        log.error("raised", exc_info=error)  # noqa: TRY400 - what the code does everywhere
    written = stream.getvalue()
    assert CANARY not in written
    for expected in ("ours", "visible", "theirs", "raised", "ValueError", "test_telemetry.py"):
        assert expected in written


def test_logs_exceptions_are_shown_without_the_values_of_locals() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "console", stream=stream)

    def fails(prompt: str) -> None:
        local = prompt * 2
        raise RuntimeError(f"length {len(local)}")

    try:
        fails(CANARY)
    except RuntimeError as error:
        structlog.get_logger().error("raised", exc_info=error)
    assert "RuntimeError: length" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_logs_json_is_one_object_a_line_with_the_usual_fields() -> None:
    stream = io.StringIO()
    configure_logging("INFO", "json", stream=stream)
    structlog.get_logger("a").info("hello", number=1, other=object())
    structlog.get_logger("a").debug("too low")
    logging.getLogger("b").error("bad\nline")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["level"], ours["logger"], ours["number"]) == ("hello", "info", "a", 1)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("bad\nline", "error", "b")
    assert ours["timestamp"].endswith("Z")


def test_logs_chatty_libraries_are_quiet() -> None:
    stream = io.StringIO()
    configure_logging("DEBUG", "console", stream=stream)
    logging.getLogger("httpx").info("GET …")
    assert stream.getvalue() == ""


# --- error reports


def test_sentry_report_of_a_logged_error_holds_where_and_what_type_and_no_content(events: list[Any]) -> None:
    def run(prompt: str) -> None:
        local = {"text": prompt}
        raise ModelError(f"cannot read {local}")

    try:
        run(CANARY)
    except ModelError as error:
        structlog.get_logger("workers").error(
            "backend raised", exc_info=error, model="minilm", jobs=3, error=f"quoting {CANARY}", input=CANARY, url=f"redis://:{CANARY}@h"
        )
    (event,) = events
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("ModelError", REDACTED)
    assert raised["stacktrace"]["frames"][-1]["function"] == "run"
    assert event["logentry"]["message"] == "backend raised"
    assert (event["extra"]["model"], event["extra"]["jobs"]) == ("minilm", 3)
    assert CANARY not in json.dumps(event, default=str)


def test_sentry_report_of_an_uncaught_error_holds_no_content(events: list[Any]) -> None:
    try:
        raise KeyError(CANARY)  # noqa: TRY301
    except KeyError as error:
        with sentry_sdk.new_scope() as scope:
            scope.set_extra("payload", CANARY)
            sentry_sdk.capture_exception(error)
    assert CANARY not in json.dumps(events, default=str)
    assert events[0]["exception"]["values"][0]["type"] == "KeyError"


def test_sentry_report_of_a_library_error_holds_its_template_alone(events: list[Any]) -> None:
    logging.getLogger("library").error("failed for %s", CANARY)
    assert events[0]["logentry"]["message"] == "failed for %s"
    assert CANARY not in json.dumps(events, default=str)


def test_sentry_warnings_are_not_reported_and_no_breadcrumbs_are_kept(events: list[Any]) -> None:
    log = structlog.get_logger("x")
    log.warning(CANARY)
    assert events == []
    log.error("an error")
    assert not events[0].get("breadcrumbs", {}).get("values")
    assert CANARY not in json.dumps(events, default=str)


def test_sentry_without_a_dsn_does_nothing() -> None:
    before = sentry_sdk.get_client()
    configure_sentry(None, "production")
    configure_sentry("", "production")
    assert sentry_sdk.get_client() is before
