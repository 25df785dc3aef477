"""`millpond worker`: a worker process of one pool."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import click
import structlog

from cli.files import store_location
from domain.errors import ConfigurationError
from settings import load_catalogue, load_settings
from telemetry.errors import configure_sentry
from telemetry.logs import configure_logging
from weights.ready import lacking


@click.command()
@click.option("--pool", required=True, help="The pool of the catalogue whose queues this worker reads.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Child processes; the pool's own number unless given.")
@click.option("--name", help="A name that no other worker has; made from host and process id unless given.")
def command(pool: str, concurrency: int | None, name: str | None) -> None:
    """Run a worker of one pool until it is told to stop (SIGTERM)."""
    from workers.app import WorkerProcess  # noqa: PLC0415 - Celery takes half a second to import; `--help` need not wait for it
    from workers.config import WorkerConfig  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    configure_sentry(settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else None, settings.environment.value)
    catalogue = load_catalogue(settings)
    if pool not in catalogue.pools:
        raise ConfigurationError(f"--pool: there is no pool {pool!r}; the catalogue has {', '.join(sorted(catalogue.pools))}")
    if settings.database_url is None or settings.broker_url is None:
        raise ConfigurationError("MILLPOND_DATABASE_URL and MILLPOND_BROKER_URL: must be set for a worker")
    models_dir = settings.state_dir.absolute() / "models"
    of_pool = catalogue.models_of_pool(pool)
    keys = {key_name: key.get_secret_value() for key_name, key in settings.provider_keys.items() if key.get_secret_value()}
    missing = {model_name: do for model_name, model in of_pool.items() if (do := lacking(model_name, model, models_dir, keys))}
    if len(missing) == len(of_pool):
        raise ConfigurationError(f"--pool: no model of {pool} can run here: {'; '.join(missing.values())}")
    if missing:
        structlog.get_logger(__name__).warning("models cannot run here; the worker runs without them", pool=pool, models=missing)
    config = WorkerConfig(
        name=name or name_of(pool, os.getpid()),
        pool=pool,
        concurrency=concurrency or catalogue.pools[pool].concurrency,
        database_url=settings.database_url.get_secret_value(),
        broker_url=settings.broker_url.get_secret_value(),
        queue_type=settings.queue_type.value,
        visibility_timeout_s=settings.visibility_timeout_s,
        catalogue=catalogue,
        run_dir=Path(tempfile.mkdtemp(prefix="millpond-worker-")),
        models_dir=models_dir,
        missing=tuple(missing),
        provider_keys=keys,
        fetch_allow_private=settings.fetch_allow_private,
        files=store_location(settings),
        output_inline_bytes=settings.output_inline_bytes,
        lease_s=settings.lease_s,
        lease_renew_s=settings.lease_renew_s,
        cancel_kill_s=settings.cancel_kill_s,
        drain_s=settings.drain_s,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    sys.exit(WorkerProcess(config).run())


def name_of(pool: str, pid: int) -> str:
    """The name of a worker on this machine that was given none."""
    return f"{pool}-{socket.gethostname()}-{pid}"
