"""Logs: structlog over the standard library, so that our lines and those of libraries look alike and are redacted alike."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from telemetry.redaction import redact, redact_text

_QUIET = ("alembic", "amqp", "celery.bootsteps", "httpcore", "httpx", "kombu", "urllib3")  # of these, warnings and worse only

EventDict = MutableMapping[str, Any]


def configure_logging(level: str, log_format: str, *, stream: TextIO | None = None) -> None:
    """Sends all logs of this process to standard error; call it once, at the start of a process.

    Exceptions are shown without the values of local variables, which would hold what people sent.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
        log_format: ``console`` for people, ``json`` for machines.
        stream: where to; standard error unless given.
    """
    target = stream if stream is not None else sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.UnicodeDecoder(),
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, _hand_over],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, _redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _hand_over(logger: logging.Logger, name: str, event_dict: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    """Gives the fields to the standard library, and the exception too, where Sentry's handler finds it."""
    args, options = structlog.stdlib.ProcessorFormatter.wrap_for_formatter(logger, name, event_dict)
    return args, {**options, "exc_info": event_dict.get("exc_info")}


def _redact(_logger: object, _name: str, event_dict: EventDict) -> EventDict:
    for name, value in redact(dict(event_dict)).items():
        event_dict[name] = redact_text(str(value)) if isinstance(value, BaseException) else value
    return event_dict
