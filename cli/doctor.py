"""What `millpond doctor` looks at: each check yields findings, and each finding that is not good says what to do."""

import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from secrets import token_hex
from urllib.parse import urlsplit

import httpx
from redis import Redis, RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from api.server import check_free
from broker.inspection import DEFAULT_CONSUMER_TIMEOUT_MS, BrokerKind, inspect_broker
from broker.sender import BrokerAway, Sender
from broker.topology import is_amqp
from cli.address import url_of
from cli.files import store_location
from cli.sealing import sealer_of
from cli.servers import broker_url, database_url, redis_url
from domain.catalogue import Catalogue, ModelSpec
from domain.errors import ConfigurationError
from domain.job import Priority
from models.migrate import pending
from models.queries.queues import pool_workers
from models.queries.server import server_facts
from models.transactions import DatabaseAway, make_engine, statement
from settings import QueueType, Settings
from storage.objects import ObjectGone, ObjectStore, StoreAway
from weights.ready import import_error, lacking, remedy

OLDEST_POSTGRES = 150_000
ASK_TIMEOUT_S = 3.0


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        what: the thing that was looked at.
        says: how it is.
        do: what to do about it; empty where nothing is to be done.
    """

    level: Level
    what: str
    says: str
    do: str = ""


def ok(what: str, says: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, what, says)


def warn(what: str, says: str, do: str) -> Finding:
    """It works, but not as it should."""
    return Finding(Level.WARN, what, says, do)


def fail(what: str, says: str, do: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, what, says, do)


def examine(settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """Runs every check; a server that is away costs at most a few seconds, and no other check."""
    yield ok("settings", f"{settings.environment.value}; state in {settings.state_dir.absolute()}")
    yield ok("catalogue", f"{len(catalogue.tasks)} tasks, {len(catalogue.models)} models, {len(catalogue.pools)} pools")
    for check in (check_database, check_broker, check_redis, check_files, check_secret_keys, check_models, check_runtimes, check_api):
        yield from _unless_misconfigured(check, settings, catalogue)


def _unless_misconfigured(check: Callable[[Settings, Catalogue], Iterator[Finding]], settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    try:
        yield from check(settings, catalogue)
    except ConfigurationError as error:
        variable, _, says = error.message.partition(": ")
        yield fail(check.__name__.removeprefix("check_"), says, f"set {variable}, or run `millpond up`")


# --- the database


def check_database(settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """Answers; is new enough; has the schema; writes what it promises to disk; has workers that report."""
    url = database_url(settings)
    engine = make_engine(url, pool_size=1, application_name="millpond doctor")
    try:
        with statement(engine) as connection:
            facts = server_facts(connection)
        if facts.version_number < OLDEST_POSTGRES:
            yield fail("database", f"PostgreSQL {facts.version} is too old", "use PostgreSQL 15 or newer")
            return
        yield ok("database", f"PostgreSQL {facts.version} answers")
        if not facts.fsync:
            yield warn("database fsync", "is off: a power failure loses accepted jobs", "set `fsync = on` in postgresql.conf")
        missing = pending(url)
        if missing:
            yield fail("database schema", f"lacks {', '.join(missing)}", "run `millpond migrate`")
            return
        yield ok("database schema", "is the newest")
        yield from _workers(engine, catalogue)
    except (DatabaseAway, OperationalError) as error:
        says = " ".join(str(error.orig if isinstance(error, OperationalError) else error).split())
        yield fail("database", f"does not answer: {says}", "start PostgreSQL, or correct MILLPOND_DATABASE_URL")
    finally:
        engine.dispose()


def _workers(engine: Engine, catalogue: Catalogue) -> Iterator[Finding]:
    with statement(engine) as connection:
        workers = pool_workers(connection)
    for pool in catalogue.pools:
        ready = workers[pool].ready if pool in workers else 0
        if ready:
            yield ok(f"workers of {pool}", f"{ready} ready")
        else:
            yield warn(f"workers of {pool}", "none is ready; its jobs wait", f"run `millpond worker --pool {pool}`, or look at its log")


# --- the broker


def check_broker(settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """Answers; its queues are of the type that the settings say; it waits longer than a message can stay in a worker."""
    url = broker_url(settings)
    try:
        kind = inspect_broker(url)
        yield ok("broker", f"{kind.product} {kind.version}".strip() + " answers")
        yield from _queues(url, settings, catalogue)
    except BrokerAway as error:
        yield fail("broker", f"does not answer: {' '.join(str(error).split())}", "start it, or correct MILLPOND_BROKER_URL")
        return
    if is_amqp(url):
        yield consumer_timeout(url, kind, settings.queue_type, catalogue)
    else:
        yield from _eviction(url)
        then, do = "it is delivered again then, for nothing", "raise MILLPOND_VISIBILITY_TIMEOUT_S"
        yield _patience("broker visibility", settings.visibility_timeout_s, catalogue, then=then, do=do)


def _queues(url: str, settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    waiting = 0
    with Sender(url, queue_type=settings.queue_type.value) as sender:
        for queue in catalogue.queues():
            try:
                waiting += sender.ready_messages(queue)
            except BrokerAway as error:
                if "x-queue-type" not in str(error) and "PRECONDITION" not in str(error):
                    raise
                other = next(kind for kind in QueueType if kind is not settings.queue_type)
                yield fail(
                    "broker queues",
                    f"{queue} is there, and not a {settings.queue_type.value} queue",
                    f"set MILLPOND_QUEUE_TYPE={other.value}, or stop the workers and delete the queue: jobs are in the database, the sweep brings them again",
                )
                return
    yield ok("broker queues", f"{len(list(catalogue.queues()))} queues, {waiting} messages wait")


def longest_in_worker_s(catalogue: Catalogue, *, at_most: bool = False) -> tuple[float, str]:
    """The longest that a message can stay unacknowledged in a worker, and of which pool, where every micro-batch takes its whole time-out.

    A worker buffers messages per child and lane (``Catalogue.prefetch_of_pool``): so many batches wait before the one that runs, and each may be
    cut into micro-batches (``ModelSpec.micro_batches``). What fails and runs again in parts is not counted.

    Args:
        catalogue: has the limits.
        at_most: with every job asking for the longest time-out it may, in place of its task's own.
    """

    def stay_s(model: ModelSpec) -> float:
        task = catalogue.tasks[model.task]
        batches = len(Priority) * -(-catalogue.prefetch_of_pool(model.pool) * model.ids_per_message // model.max_batch_size)
        return (batches + 1) * model.micro_batches * (task.max_timeout_s if at_most else task.timeout_s)

    return max((stay_s(model), model.pool) for model in catalogue.models.values())


def _patience(what: str, patience_s: float, catalogue: Catalogue, *, then: str, do: str) -> Finding:
    """Compares what the broker waits with the longest stay. What passes it costs work, and loses nothing: the jobs are in the database."""
    longest_s, pool = longest_in_worker_s(catalogue)
    if longest_s < patience_s:
        at_most_s, _ = longest_in_worker_s(catalogue, at_most=True)
        says = f"{patience_s:g} s; by the tasks' time-outs a message can stay {longest_s:g} s in a worker, {at_most_s:g} s if every job asks for max_timeout_s"
        return ok(what, says)
    says = f"is {patience_s:g} s; by the tasks' time-outs, a message can stay {longest_s:g} s in a worker of {pool}: {then}"
    return warn(what, says, f"{do}, or lower the time-outs in the catalogue")


def consumer_timeout(url: str, kind: BrokerKind, queue_type: QueueType, catalogue: Catalogue) -> Finding:
    """Whether RabbitMQ waits long enough for an acknowledgement; a broker on another machine cannot be asked."""
    what = "broker consumer_timeout"
    patience_s = math.inf if not kind.has_consumer_timeout(queue_type.value) else _asked_consumer_timeout_s() if _is_here(url) else None
    if patience_s == math.inf:
        return ok(what, "none for these queues")
    if patience_s is None:
        longest_s, pool = longest_in_worker_s(catalogue)
        says = f"was not asked: it takes rabbitmqctl on the broker's machine; by the tasks' time-outs, a message can stay {longest_s:g} s in a worker of {pool}"
        do = f"see that `consumer_timeout` in rabbitmq.conf is above {longest_s * 1_000:.0f} (milliseconds); by default it is {DEFAULT_CONSUMER_TIMEOUT_MS}"
        return warn(what, says, do)
    then = "RabbitMQ closes the worker's channel then, and gives its messages to others"
    return _patience(what, patience_s, catalogue, then=then, do="raise `consumer_timeout` in rabbitmq.conf")


def _is_here(url: str) -> bool:
    """Whether the URL names this machine: the local ``rabbitmqctl`` knows of no other."""
    host = urlsplit(url).hostname or "localhost"
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _asked_consumer_timeout_s() -> float | None:
    """What RabbitMQ says of itself, infinite where it has no limit; None if its tool is not here or may not ask."""
    tool = shutil.which("rabbitmqctl")
    if tool is None:
        return None
    try:
        asked = subprocess.run(  # noqa: S603 - a fixed command
            [tool, "-q", "eval", "application:get_env(rabbit, consumer_timeout)."], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = asked.stdout.strip().removeprefix("{ok,").removesuffix("}")
    if asked.returncode == 0 and answer == "undefined":
        return math.inf
    return int(answer) / 1_000 if asked.returncode == 0 and answer.isdigit() else None


def _eviction(url: str) -> Iterator[Finding]:
    with Redis.from_url(url, socket_timeout=ASK_TIMEOUT_S) as client:
        try:
            policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
        except RedisError:
            return
    if policy != "noeviction":
        yield warn("broker memory", f"maxmemory-policy is {policy}: it may drop messages", "set `maxmemory-policy noeviction`")


# --- the rest


def check_redis(settings: Settings, _catalogue: Catalogue) -> Iterator[Finding]:
    """Answers; without it everything works, uncached."""
    try:
        with Redis.from_url(redis_url(settings), socket_timeout=ASK_TIMEOUT_S, socket_connect_timeout=ASK_TIMEOUT_S) as client:
            client.ping()
    except RedisError as error:
        yield warn("redis", f"does not answer: {error}", "start it, or correct MILLPOND_REDIS_URL; until then there are no caches")
        return
    yield ok("redis", "answers")


def check_files(settings: Settings, _: Catalogue) -> Iterator[Finding]:
    """Takes an object, gives it back, and lets go of it."""
    location = store_location(settings)
    store, key = ObjectStore(location), f"doctor/{token_hex(16)}"
    try:
        store.write(key, [b"probe"])
        kept = store.read(key) == b"probe"
        store.delete(key)
    except (StoreAway, ObjectGone) as error:
        yield fail("files", f"{location.url} does not store: {error}", "check MILLPOND_FILES_URL and who may write there")
        return
    yield ok("files", f"{location.url} stores") if kept else fail("files", f"{location.url} gives back something else", "use another store")


def check_secret_keys(settings: Settings, _catalogue: Catalogue) -> Iterator[Finding]:
    """There is a key that signing secrets of webhooks are sealed with."""
    sealer = sealer_of(settings)
    if sealer is not None:
        keys = len(settings.secret_keys.get_secret_value().split(",")) if settings.secret_keys else 0
        yield ok("secret keys", f"{keys}; {sealer.key_id} seals")
        return
    yield warn("secret keys", "there is none: no webhooks", "set MILLPOND_SECRET_KEYS to 32 random bytes in URL-safe base64, the same for every process")


def check_models(settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """The weights of the models that run here are there, and the keys of providers."""
    wanted = catalogue.pools_wanted(settings.pools)
    models = {name: model for name, model in catalogue.models.items() if model.pool in wanted}
    keys = [name for name, key in settings.provider_keys.items() if key.get_secret_value()]
    store_dir = settings.state_dir.absolute() / "models"
    missing = {name: do for name, model in models.items() if (do := lacking(name, model, store_dir, keys))}
    for name, do in missing.items():
        yield warn(f"model {name}", "cannot run here; its jobs are answered model_not_installed", do)
    if len(missing) < len(models):
        yield ok("models", f"{len(models) - len(missing)} of {len(models)} can run")


def check_runtimes(settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """What runs the models of the pools that run here can be imported."""
    wanted = catalogue.pools_wanted(settings.pools)
    here = 0
    for pool in sorted(wanted):
        error = import_error(model.backend for model in catalogue.models_of_pool(pool).values())
        if error is None:
            here += 1
        else:
            yield warn(f"runtime of {pool}", f"cannot be imported, so no worker of {pool} runs here: {error}", remedy(error))
    if here:
        yield ok("runtimes", f"of {here} of {len(wanted)} pools can be imported")


def check_api(settings: Settings, _catalogue: Catalogue) -> Iterator[Finding]:
    """It answers; or else its port is free."""
    url = url_of(settings)
    try:
        answer = httpx.get(f"{url}/healthz", timeout=ASK_TIMEOUT_S)
    except httpx.HTTPError:
        try:
            check_free(settings.host, settings.port)
        except ConfigurationError as error:
            yield fail("api", error.message, "stop what uses the port, or choose another: MILLPOND_PORT")
        else:
            yield ok("api", f"does not run; {settings.host}:{settings.port} is free")
        return
    if answer.status_code == httpx.codes.OK and "x-request-id" in answer.headers:
        yield ok("api", f"answers at {url}")
    else:
        yield fail("api", f"something else answers at {url}", "choose another port: MILLPOND_PORT")
