"""`millpond api`: the HTTP API."""

import gc
import os
from typing import TYPE_CHECKING

import click

from api.one_cpu import keep_to_one_cpu
from api.server import end_with_parent, on_stop_signal, serve
from api.silence import end_silent_requests
from cli.files import store_location
from cli.sealing import sealer_of
from cli.servers import broker_url, database_url, public_url
from domain.errors import ConfigurationError, ServiceUnavailable
from domain.keys import MIN_CHARS_IN_PRODUCTION, hash_key, hint_of, make_key, may_be_valid
from settings import Environment, Settings, load_catalogue, load_settings
from telemetry.errors import configure_sentry
from telemetry.logs import configure_logging

if TYPE_CHECKING:
    from flask import Flask

GC_ALLOCATIONS = 10_000


@click.command()
def command() -> None:
    """Run the HTTP API until it is told to stop (SIGTERM)."""
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    load_catalogue(settings).pools_wanted(settings.pools)  # its errors are shown once, here, not by every process
    broker_url(settings)
    sealer_of(settings)
    _ensure_first_key(settings)
    serve("cli.commands.api:make_app", host=settings.host, port=settings.port, processes=settings.api_processes, threads=settings.api_threads)


def make_app() -> "Flask":
    """The application, from the environment; the server calls it in each of its processes."""
    from api.process import ApiConfig, ApiProcess  # noqa: PLC0415 - half of the start and 30 MB, which the process that starts these can do without

    end_with_parent()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    configure_sentry(settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else None, settings.environment.value)
    catalogue = load_catalogue(settings)
    process = ApiProcess(
        ApiConfig(
            database_url=database_url(settings),
            broker_url=broker_url(settings),
            redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
            queue_type=settings.queue_type.value,
            catalogue=catalogue,
            models_dir=settings.state_dir.absolute() / "models",
            pools=catalogue.pools_wanted(settings.pools),
            threads=settings.api_threads,
            database_pool=settings.database_pool,
            max_queued_jobs=settings.max_queued_jobs,
            sealer=sealer_of(settings),
            webhook_allow_private=settings.webhook_allow_private,
            fetch_allow_private=settings.fetch_allow_private,
            files=store_location(settings),
            files_retention_s=settings.files_retention_s,
            files_quota_bytes=settings.files_quota_bytes,
            public_url=public_url(settings),
            provider_keys=frozenset(settings.provider_keys),
        )
    )
    on_stop_signal(process.stop)
    end_silent_requests(settings.port, process.in_hand)
    if settings.api_one_cpu:
        keep_to_one_cpu()
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again and again took 6 % of the throughput, and the longest pauses
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    return process.app


def _ensure_first_key(settings: Settings) -> None:
    """Makes the given key known; where none is given and the database knows none, makes one and prints it, which is not done again.

    It is printed before it is committed: one that was printed in vain is followed by another at the next start, one that was not printed would be lost.
    """
    given = settings.bootstrap_key.get_secret_value() if settings.bootstrap_key else None
    if given is not None and not may_be_valid(given):
        raise ConfigurationError("MILLPOND_BOOTSTRAP_KEY: must be 8 to 255 visible ASCII characters; one that begins with mp_ must be a key made by Millpond")
    if given is not None and settings.environment is Environment.PRODUCTION and len(given) < MIN_CHARS_IN_PRODUCTION:
        raise ConfigurationError(f"MILLPOND_BOOTSTRAP_KEY: must have at least {MIN_CHARS_IN_PRODUCTION} characters in production")
    from sqlalchemy.exc import ProgrammingError  # noqa: PLC0415

    from models.queries.keys import add_first_key, ensure_first_key  # noqa: PLC0415
    from models.transactions import DatabaseAway, make_engine, unit_of_work  # noqa: PLC0415

    engine = make_engine(database_url(settings), pool_size=1, application_name="millpond-api")
    try:
        with unit_of_work(engine) as connection:
            if given is not None:
                ensure_first_key(connection, key_hash=hash_key(given), hint=hint_of(given))
                return
            key = make_key(os.urandom(6), os.urandom(32))
            if add_first_key(connection, key_hash=hash_key(key), hint=hint_of(key)):
                click.echo(f"The first API key, shown this once: {key}")
    except DatabaseAway as error:
        if given is None:
            click.echo("The database does not answer: whether a first key is needed is looked at by the next start.", err=True)
            return
        raise ServiceUnavailable(f"the database does not answer: {error}") from error
    except ProgrammingError as error:
        raise ServiceUnavailable(f"the database refuses: {str(error.orig).splitlines()[0]}; `millpond migrate` brings it to the newest schema") from error
    finally:
        engine.dispose()
