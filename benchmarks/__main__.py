"""`make bench`: every figure that is promised, measured in one run on this machine."""

import functools
import signal
import sys
import time
from collections.abc import Callable

import click

from benchmarks.harness.bentoml_stack import QUESTIONS as BENTOML_QUESTIONS
from benchmarks.harness.bentoml_stack import bentoml_of
from benchmarks.harness.load import BenchmarkFailed
from benchmarks.harness.report import Finding, machine, table
from benchmarks.harness.servers import Servers
from benchmarks.sections import big_table, embedding, held_waits, peers, routing, sharing, webhooks

SECTIONS = ("peers", "bentoml", "embedding", "big-table", "held-waits", "sharing", "webhooks", "routing")
CHOICES = (*SECTIONS, *peers.QUESTIONS)


@click.command(help=f"Measure Millpond and its peers. Sections: {', '.join(SECTIONS)}; of peers also {', '.join(peers.QUESTIONS)} alone.")
@click.option("--only", default=",".join(SECTIONS), show_default=True, help="What to measure, separated by commas.")
@click.option("--pairs", default=3, show_default=True, type=click.IntRange(1, 20), help="Turns of each stack; medians are shown.")
@click.option("--jobs", default=big_table.FINISHED, show_default=True, type=click.IntRange(1), help="Finished jobs in the big table.")
@click.option("--database-url", default="postgresql://postgres@127.0.0.1:5432/postgres", show_default=True, help="PostgreSQL where databases may be made.")
@click.option(
    "--broker-url", default="amqp://guest:guest@127.0.0.1:5672//", show_default=True, help="RabbitMQ on this machine; rabbitmqctl makes a virtual host."
)
@click.option("--bentoml-python", default=sys.executable, help="A Python that has BentoML; without one its section is left out.")
def main(*, only: str, pairs: int, jobs: int, database_url: str, broker_url: str, bentoml_python: str) -> None:
    """Runs the sections and prints one table each; exits with 1 if a bar was missed."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(wanted) - set(CHOICES):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(CHOICES)}", param_hint="--only")
    questions = peers.QUESTIONS if "peers" in wanted else [name for name in wanted if name in peers.QUESTIONS]
    servers = Servers(database_url, broker_url)
    sections: list[tuple[str, str, Callable[[], list[Finding]]]] = []
    if questions:
        sections.append(("peers", "tutorial", lambda: peers.measure(servers, pairs=pairs, only=questions, say=click.echo)))
    if "bentoml" in wanted:
        if bentoml := bentoml_of(bentoml_python):
            ask = functools.partial(peers.measure, servers, pairs=pairs, only=BENTOML_QUESTIONS, say=click.echo, peer=bentoml)
            sections.append(("bentoml", "BentoML tasks", ask))
        else:
            click.echo(f"bentoml: left out, {bentoml_python} has no BentoML; name one that has: --bentoml-python")
    if "embedding" in wanted:
        sections.append(("embedding", "bare loop", lambda: embedding.measure(servers, pairs=pairs, say=click.echo)))
    if "big-table" in wanted:
        sections.append(("big-table", "empty table", lambda: big_table.measure(servers, pairs=pairs, say=click.echo, jobs=jobs)))
    if "held-waits" in wanted:
        sections.append(("held-waits", "without", lambda: held_waits.measure(servers, pairs=pairs, say=click.echo)))
    if "sharing" in wanted:
        sections.append(("sharing", "even", lambda: sharing.measure(servers, say=click.echo)))
    if "webhooks" in wanted:
        sections.append(("webhooks", "bare loop", lambda: webhooks.measure(servers, pairs=pairs, say=click.echo)))
    if "routing" in wanted:
        sections.append(("routing", "best fixed choice", lambda: routing.measure(servers, pairs=pairs, say=click.echo)))
    sys.exit(_run(servers, sections))


def _run(servers: Servers, sections: list[tuple[str, str, Callable[[], list[Finding]]]]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is stopped on the way out
    tables, missed = [], 0
    try:
        click.echo(f"{machine()}\n{servers.described()}\n")
        for name, against, measure in sections:
            click.echo(f"{name}:")
            began = time.monotonic()
            findings = measure()
            missed += sum(finding.kept is False for finding in findings)
            tables.append(table(findings, against=against))
            click.echo(f"  took {time.monotonic() - began:.0f} s")
    except BenchmarkFailed as error:
        click.echo(f"millpond: {error}", err=True)
        missed += 1
    click.echo("\n" + "\n\n".join([*tables, f"Medians (lowest–highest). {machine()}"]))
    return 1 if missed else 0


if __name__ == "__main__":
    main()
