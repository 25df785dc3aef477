"""`millpond up`: everything on this machine under one parent."""

import json
import os
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import click
from rich.console import Console

from api.server import check_free
from cli.address import url_of
from cli.client import KEY_FILE, Client, Refused, Unreachable
from cli.demo import first_examples, run_demo
from cli.embedded.child import Child
from cli.embedded.processes import Process
from cli.embedded.stack import WORKER_PREFIX, Stack
from cli.embedded.state import StateFolder
from cli.embedded.supervisor import Supervisor
from cli.webhook_demo import run_webhook_demo
from domain.catalogue import Catalogue
from domain.errors import PullFailed
from domain.keys import make_key
from settings import Settings, load_catalogue, load_settings
from weights.pull import pull_models
from weights.ready import lacking

SIGNING_FILE = "webhook_secret"  # in the state folder: what signs the webhooks of jobs

_READY_S = 180.0  # models may load from a cold disk meanwhile
_ASK_EVERY_S = 0.25
_WIDTH_OF_A_FILE = 120
_TO_COPY = "text.sentiment"  # short in, short out


@click.command()
@click.option("--demo", is_flag=True, help="Leave after the jobs.")
def command(*, demo: bool) -> None:
    """Start everything on this machine, show one real job per task type, and serve until Ctrl-C.

    PostgreSQL and Valkey are started too, unless MILLPOND_DATABASE_URL, MILLPOND_BROKER_URL and MILLPOND_REDIS_URL name others.
    """
    settings = load_settings()
    catalogue = load_catalogue(settings)
    wanted = catalogue.pools_wanted(settings.pools)
    state = StateFolder(settings.state_dir)
    supervisor = Supervisor(state, say=click.echo)
    stack = Stack(settings, state, supervisor)
    succeeded = True
    with supervisor:
        supervisor.take_folder()
        began = time.monotonic()
        check_free(settings.host, settings.port)  # now, when what a killed run left has stopped
        click.echo(f"Starting; state and logs are in {state.root}")
        stack.start_servers()
        keys = [name for name, value in settings.provider_keys.items() if value.get_secret_value()]
        pools = _pools_with_models(catalogue, state, wanted, keys)
        key = _first_key(settings, state)
        supervisor.leave_out = _leaver_out(stack, pools)
        stack.start_processes(key, pools)
        client = Client(url_of(settings), key)
        supervisor.wait_until(lambda: _is_ready(client, pools), every_s=_ASK_EVERY_S, timeout_s=_READY_S, what="waiting for the API and the workers")
        click.echo(f"Ready after {time.monotonic() - began:.1f} s\n")
        here = {model.task for model in catalogue.models.values() if model.pool in wanted}
        everywhere = first_examples(client)
        examples = {task: example for task, example in everywhere.items() if task in here}
        succeeded = supervisor.meanwhile(lambda: run_demo(client, examples, _console()))
        if elsewhere := sorted(everywhere.keys() - here):
            click.echo(f"Not started here: {', '.join(elsewhere)}; `make run POOLS=all` brings them.\n")
        ready = {task: examples[task] for task in examples if any(model.pool in pools for model in catalogue.models_of_task(task).values())}
        if ready and _may_send_here(settings):
            succeeded = supervisor.meanwhile(lambda: _show_webhook(client, state, ready)) and succeeded
        _say_where(url_of(settings), key, ready or examples, state)
        if not demo:
            supervisor.release_leases = _lease_releaser(stack.database_url)
            click.echo("Serving. Ctrl-C stops everything.")
            supervisor.serve()
    if demo and not succeeded:
        raise click.exceptions.Exit(1)


def _pools_with_models(catalogue: Catalogue, state: StateFolder, wanted: Collection[str], keys: Collection[str]) -> list[str]:
    """Fetches missing weights; the wanted pools of which a model can run here."""
    try:
        pull_models(catalogue, state.models, report=click.echo, names=[name for name, model in catalogue.models.items() if model.pool in wanted])
    except PullFailed as error:
        click.echo(f"Some weights could not be fetched; without them goes what needs them.\n{error.message}", err=True)
    pools = []
    for pool in (pool for pool in catalogue.pools if pool in wanted):
        models = catalogue.models_of_pool(pool)
        missing = {name: do for name, model in models.items() if (do := lacking(name, model, state.models, keys))}
        for name, do in missing.items():
            click.echo(f"The pool {pool} is without {name}: {do}, then start again.", err=True)
        if len(missing) < len(models):
            pools.append(pool)
    return pools


def _leaver_out(stack: Stack, pools: list[str]) -> Callable[[Child], None]:
    """Goes on without a pool whose models do not load here, and takes it off the list."""

    def leave_out(worker: Child) -> None:
        pool = worker.spec.name.removeprefix(WORKER_PREFIX)
        click.echo(f"The pool {pool} is left out: {worker.last_line()}, then start again (its log: {worker.log}).", err=True)
        pools.remove(pool)
        stack.leave_out(pool)

    return leave_out


def _first_key(settings: Settings, state: StateFolder) -> str:
    """The given one, else the one of the first start; the folder keeps it for the commands that a person types."""
    if settings.bootstrap_key is not None:
        key = settings.bootstrap_key.get_secret_value()
        state.keep(KEY_FILE, key)
        return key
    return state.secret(KEY_FILE, lambda: make_key(os.urandom(6), os.urandom(32)))


def _is_ready(client: Client, pools: Sequence[str]) -> bool:
    try:
        client.call("GET", "/readyz")
        queues = client.call("GET", "/v1/queues?limit=200")["data"]
    except (Unreachable, Refused):
        return False
    return {queue["pool"] for queue in queues if queue["ready_workers"]} >= set(pools)


def _may_send_here(settings: Settings) -> bool:
    """Whether webhooks may go to this machine: they do unless somebody said that they must not."""
    return settings.webhook_allow_private or "webhook_allow_private" not in settings.model_fields_set


def _show_webhook(client: Client, state: StateFolder, examples: Mapping[str, Mapping[str, Any]]) -> bool:
    """Shows one webhook; its secret is made by the first start and kept in the folder, for people's own receivers."""

    def make() -> str:
        secret: str = client.call("POST", "/v1/webhook-endpoints/default/rotate-secret")["secret"]
        return secret

    def renew() -> str:
        secret = make()
        state.keep(SIGNING_FILE, secret)
        return secret

    task = _to_copy(examples)
    return run_webhook_demo(client, state.secret(SIGNING_FILE, make), renew, (task, examples[task]), _console())


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)


def _to_copy(examples: Mapping[str, Mapping[str, Any]]) -> str:
    return _TO_COPY if _TO_COPY in examples else next(iter(examples))


def _say_where(url: str, key: str, examples: Mapping[str, Mapping[str, Any]], state: StateFolder) -> None:
    task = _to_copy(examples)
    body = shlex.quote(json.dumps({"task": task, "input": examples[task]}, ensure_ascii=False))
    click.echo(f"\nURL   {url}   (the contract: {url}/docs)\nkey   {key}")
    if (state.root / SIGNING_FILE).exists():
        click.echo(f"secret of webhooks   in {state.root / SIGNING_FILE}")
    click.echo("")
    click.echo(f"curl -s {url}/v1/jobs -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d {body}\n")


def _lease_releaser(database_url: str) -> Callable[[Sequence[Process]], None]:
    """Gives back the jobs of workers that had to be killed, so that the next start runs them at once.

    What it needs takes a second to import, which the start would feel; and the stop, which has 10 s, even more.
    """
    from cli.commands.worker import name_of  # noqa: PLC0415
    from models.transactions import make_engine  # noqa: PLC0415
    from workers.maintenance.release import release_worker  # noqa: PLC0415

    engine = make_engine(database_url, pool_size=1, statement_timeout_s=1.0, application_name="millpond up")

    def release(killed: Sequence[Process]) -> None:
        for process in killed:
            if process.name.startswith(WORKER_PREFIX):
                release_worker(engine, name_of(process.name.removeprefix(WORKER_PREFIX), process.pid))
        engine.dispose()

    return release
