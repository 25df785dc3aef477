"""Error reports to Sentry: where in the code, and of which type; never what people sent, never a secret."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from telemetry.redaction import CONTENT_FIELDS, REDACTED, SECRET_FIELDS, is_private, redact_text

if TYPE_CHECKING:
    from sentry_sdk.transport import Transport
    from sentry_sdk.types import Event, Hint

# Text of these fields is ours: names of the catalogue, ids, outcomes. Text of any other field may quote what a model was given.
OUR_FIELDS = frozenset({"code", "duty", "event", "job_id", "level", "logger", "method", "model", "outcome", "pool", "queue", "request_id", "task", "worker"})
SHUTDOWN_S = 2.0


def configure_sentry(dsn: str | None, environment: str, release: str | None = None, *, transport: "Transport | None" = None) -> None:
    """Reports logged errors and uncaught exceptions; does nothing without a DSN.

    Nothing is instrumented but logging, threads and the interpreter's own hooks: integrations for web servers, queues and databases would
    collect requests, arguments and queries. A report is sent by a background thread; a DSN that does not answer costs nothing.

    Args:
        dsn: where to; None for nowhere.
        environment: ``development`` or ``production``.
        release: the version that runs.
        transport: takes events in place of the network; for tests.
    """
    if not dsn:
        return
    import sentry_sdk  # noqa: PLC0415 - a tenth of what a process does at its start, and most have no DSN
    from sentry_sdk.integrations.argv import ArgvIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.logging import LoggingIntegration  # noqa: PLC0415
    from sentry_sdk.integrations.stdlib import StdlibIntegration  # noqa: PLC0415
    from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber  # noqa: PLC0415

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        transport=transport,
        include_local_variables=False,  # on by default; locals hold inputs
        max_request_body_size="never",
        max_breadcrumbs=0,  # log lines of other requests say more than the error needs
        auto_enabling_integrations=False,
        integrations=[LoggingIntegration(level=None, event_level=logging.ERROR)],
        disabled_integrations=[ArgvIntegration, StdlibIntegration],  # command lines hold keys, child processes' arguments and URLs too
        event_scrubber=EventScrubber(denylist=[*DEFAULT_DENYLIST, *SECRET_FIELDS, *CONTENT_FIELDS, "url"], recursive=True),
        before_send=_without_content,
        auto_session_tracking=False,
        send_client_reports=False,
        traces_sample_rate=None,
        shutdown_timeout=SHUTDOWN_S,
    )


def _without_content(event: "Event", hint: "Hint") -> "Event":
    """Keeps types, stacks, and our own constant messages; drops what exceptions and log lines quote."""
    for raised in event.get("exception", {}).get("values", []):
        raised["value"] = REDACTED
    record = hint.get("log_record")
    if isinstance(record, logging.LogRecord):
        fields: Mapping[str, Any] = record.msg if isinstance(record.msg, dict) else {"event": record.msg}
        event["logentry"] = {"message": redact_text(str(fields.get("event", "")))}
        event["extra"] = {name: value for name, value in fields.items() if name != "event" and _is_ours(name, value)}
    else:
        event.pop("extra", None)
    return event


def _is_ours(name: str, value: object) -> bool:
    return not is_private(name) and (value is None or isinstance(value, bool | int | float) or (name in OUR_FIELDS and isinstance(value, str)))
