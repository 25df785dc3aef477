"""`millpond webhooks`: the process that sends webhooks."""

import os
import socket
import sys

import click

from cli.sealing import sealer_of
from cli.servers import broker_url, database_url, public_url
from domain.errors import ConfigurationError
from models.transactions import make_engine
from settings import load_settings
from telemetry.errors import configure_sentry
from telemetry.logs import configure_logging


@click.command()
@click.option("--name", help="A name that no other sender has; made from host and process id unless given.")
def command(name: str | None) -> None:
    """Send webhooks until told to stop (SIGTERM). Any number may run."""
    from workers.webhooks.app import WebhookConfig  # noqa: PLC0415 - Celery takes half a second to import; `--help` need not wait for it
    from workers.webhooks.process import WebhookProcess  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    configure_sentry(settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else None, settings.environment.value)
    sealer = sealer_of(settings)
    if sealer is None:
        raise ConfigurationError("MILLPOND_SECRET_KEYS: must be set; no webhook can be signed without it")
    config = WebhookConfig(
        name=name or f"webhooks-{socket.gethostname()}-{os.getpid()}",
        broker_url=broker_url(settings),
        queue_type=settings.queue_type.value,
        threads=settings.webhook_threads,
    )
    engine = make_engine(database_url(settings), pool_size=settings.database_pool, application_name="millpond webhooks")
    process = WebhookProcess(
        config,
        engine,
        sealer=sealer,
        base_url=public_url(settings),
        allow_private=settings.webhook_allow_private,
        lease_s=settings.webhook_lease_s,
    )
    sys.exit(process.run())
