"""Every setting, its type, range, default and meaning. ``docs/generated/settings.md`` is made from this file."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_SCHEMES = {
    "database_url": ("postgresql://", "postgresql+psycopg2://", "postgres://"),
    "broker_url": ("amqp://", "amqps://", "redis://", "rediss://"),
    "redis_url": ("redis://", "rediss://"),
}
_CANCEL_S = 10.0  # within which a cancel reaches a child: a renewal tells its worker, which then gives it time to stop by itself
_USER = re.compile(r"^[^:/]*(:[^@]*)?@")
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
Port = Annotated[int, Field(ge=1, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Environment(StrEnum):
    """Where this runs: ``production`` leaves out what is for development only."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class QueueType(StrEnum):
    """RabbitMQ's queue type: ``classic`` on one node, ``quorum`` in a cluster."""

    CLASSIC = "classic"
    QUORUM = "quorum"


class Settings(BaseSettings):
    """All settings; each is read from the variable ``MILLPOND_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="MILLPOND_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    environment: Environment = Field(Environment.DEVELOPMENT, description="`development` or `production`.")
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Port = Field(8080, description="Port the API listens on.")
    state_dir: Path = Field(Path(".millpond"), description="Folder for the embedded servers, model weights, logs and keys.")
    catalogue: Path = Field(Path("catalogue.toml"), description="The catalogue of pools, task types and models.")
    pools: str = Field(
        "", description="Optional pools of the catalogue that run here, beside the others: names with commas between, or `all`. `-name` leaves one out."
    )
    bootstrap_key: SecretStr | None = Field(None, description="The first API key, for automation; else one is made and printed.")

    database_url: SecretStr | None = Field(None, description="PostgreSQL 15 or newer: `postgresql://user:password@host:port/name`.")
    broker_url: SecretStr | None = Field(None, description="RabbitMQ (`amqp://…`, `amqps://…`) or Valkey/Redis (`redis://…`, `rediss://…`).")
    redis_url: SecretStr | None = Field(None, description="Redis or Valkey (`redis://…`, `rediss://…`), for caches and limits.")
    queue_type: QueueType = Field(QueueType.CLASSIC, description="RabbitMQ's queue type: `classic` on one node, `quorum` in a cluster.")
    visibility_timeout_s: Seconds = Field(28_800.0, description="Valkey/Redis as broker: a message not acknowledged for so long is delivered again.")

    api_processes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="API processes behind the port.")
    api_threads: Annotated[int, Field(ge=4, le=2_000)] = Field(
        400, description="Requests one API process serves at once; three quarters may be held waits, a sixth may read bodies."
    )
    api_one_cpu: bool = Field(
        default=True, description="A busy API process keeps to one CPU at a time, which costs it less (Linux); off: the system moves it about."
    )
    database_pool: Annotated[int, Field(ge=1, le=200)] = Field(8, description="Database connections of one process.")
    max_queued_jobs: Annotated[int, Field(ge=1)] = Field(1_000_000, description="Jobs that may wait in all; past that a submit answers 503.")

    lease_s: Seconds = Field(30.0, description="How long a worker holds a job without renewing.")
    lease_renew_s: Seconds = Field(5.0, description="How often a worker renews its leases, and learns of cancels; less than half of a lease.")
    lease_grace_s: Seconds = Field(5.0, description="How long after its end a lease is taken away.")
    cancel_kill_s: Seconds = Field(
        4.0, description="A child that ignores its stop flag for so long, with nothing wanted left in it, is killed; with a renewal, less than 10 s."
    )
    drain_s: Seconds = Field(25.0, description="How long a stopping worker lets running batches finish before it gives their jobs back.")
    relay_every_s: Seconds = Field(0.2, description="How often due jobs are looked for and published.")
    reap_every_s: Seconds = Field(2.0, description="How often lapsed leases and passed deadlines are looked for.")
    sweep_every_s: Seconds = Field(5.0, description="How often queues are compared with the jobs that should be in them.")
    prune_every_s: Seconds = Field(60.0, description="How often results past their retention are erased.")

    secret_keys: SecretStr | None = Field(
        None, description="Keys that webhook secrets are sealed with, with commas between: the first seals, all unseal. Without one, no webhooks."
    )
    provider_keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Keys of remote models\' providers by the names that the catalogue calls them: `{"name": "key"}`. Workers send them; for the API an empty '
        "one will do, as it only asks which there are.",
    )
    public_url: str | None = Field(None, description="Where clients find the API; the URLs in webhooks begin with it. Else made of host and port.")
    webhook_threads: Annotated[int, Field(ge=1, le=500)] = Field(
        32, description="Webhooks one process sends at once to endpoints that work; as many again to new ones, and to failing ones."
    )
    webhook_lease_s: Seconds = Field(45.0, description="How long a sender of webhooks holds a delivery without renewing.")
    webhook_allow_private: bool = Field(default=False, description="Whether webhooks may go to private addresses; for development.")
    files_url: str | None = Field(
        None, description="Where files are stored: `file:///folder`, or `s3://bucket/prefix` (extra `s3`). `files` in the state folder unless given."
    )
    files_s3_endpoint: str | None = Field(None, description="URL of an S3-compatible store; Amazon's own unless given.")
    files_s3_access_key: str | None = Field(None, description="Who we are to the S3-compatible store; else what its client finds in the environment.")
    files_s3_secret_key: SecretStr | None = Field(None, description="Goes with the access key.")
    files_retention_s: Annotated[float, Field(ge=60, le=10 * 365 * 86_400)] = Field(7 * 86_400.0, description="How long an uploaded file is kept.")
    files_quota_bytes: Annotated[int, Field(ge=1_048_576)] = Field(
        10 * 1_073_741_824, description="How much one tenant may store: past that an upload answers 409. What jobs give counts, and is taken all the same."
    )
    output_inline_bytes: Annotated[int, Field(ge=1_024, le=8 * 1_048_576)] = Field(
        1_048_576, description="A larger output is stored as a file, which the job names in the place of the output."
    )
    fetch_allow_private: bool = Field(default=False, description="Whether inputs by URL may be fetched from private addresses; for development.")
    sentry_dsn: SecretStr | None = Field(None, description="Where errors are reported; nowhere if empty.")
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = Field("console", description="`console` for people, `json` for machines.")

    @field_validator("database_url", "broker_url", "redis_url")
    @classmethod
    def _is_the_url_of_a_server(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        known = _SCHEMES[str(info.field_name)]
        if value is not None and not value.get_secret_value().startswith(known):
            raise ValueError(f"must start with {' or '.join(known)}")
        if value is not None and not all(map(_can_be_read, _addresses(str(info.field_name), value.get_secret_value()))):
            raise ValueError("its host or port cannot be read; an @ in a password must be written %40, a / in a broker's or Redis' %2F")
        return value

    @field_validator("lease_renew_s")
    @classmethod
    def _comes_twice_in_a_lease(cls, value: float, info: ValidationInfo) -> float:
        lease_s = info.data.get("lease_s")  # absent where it is wrong by itself
        if lease_s is not None and value >= lease_s / 2:
            raise ValueError(f"must be less than half of MILLPOND_LEASE_S, which is {lease_s:g}: a renewal that fails would cost the lease")
        return value

    @field_validator("cancel_kill_s")
    @classmethod
    def _ends_a_canceled_child_in_time(cls, value: float, info: ValidationInfo) -> float:
        renew_s = info.data.get("lease_renew_s")
        if renew_s is not None and value + renew_s >= _CANCEL_S:
            raise ValueError(
                f"must be less than {_CANCEL_S:g} together with MILLPOND_LEASE_RENEW_S, which is {renew_s:g}: a cancel takes so long to reach a child"
            )
        return value

    @field_validator("provider_keys")
    @classmethod
    def _can_be_sent(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, key in value.items():
            if not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
                raise ValueError(f"the key {name!r} is not of visible ASCII characters")
        return value

    @field_validator("files_url")
    @classmethod
    def _is_a_store(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("file:///", "s3://")):
            raise ValueError("must start with file:/// or s3://")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value is not None and _WEB_ADDRESS.fullmatch(value) is None:
            raise ValueError("must begin with http:// or https:// and a host, and hold no query")
        return value


def _addresses(setting: str, url: str) -> Iterator[str]:
    """The parts of a URL that name a host, as the drivers cut it: a password of the database's may hold anything but ``@``, a broker's URL may be a list."""
    if setting == "database_url":
        yield "//" + _USER.sub("", url.partition("://")[2])
    elif setting == "broker_url":
        yield from url.split(";")
    else:
        yield url


def _can_be_read(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return port != 0 and (parts.scheme != "" or "@" not in parts.netloc)
