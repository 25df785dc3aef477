"""Where the time of a submit goes: the API under full load, sampled by py-spy while it holds the interpreter.

    python -m benchmarks.profile_submit            (needs py-spy on the PATH: `uv tool install py-spy`; and root, or ptrace allowed)

Prints functions by their own time and by the time spent in and below them, as shares of all samples. What it taught is in
docs/decisions/0004; a faster way to judge a change is the CPU time a job, which other load on the machine disturbs far less than
it disturbs the rate: that is printed too.
"""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
import psutil

from benchmarks.harness.load import BenchmarkFailed
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import Millpond, on_fresh_servers
from benchmarks.sections.peers import submit_at_full_speed, warm_up

SAMPLE_S = 10
SAMPLES_PER_S = 250
SHOWN = 40


@click.command()
@click.option("--database-url", default="postgresql://postgres@127.0.0.1:5432/postgres", show_default=True, help="PostgreSQL where databases may be made.")
@click.option("--broker-url", default="amqp://guest:guest@127.0.0.1:5672//", show_default=True, help="RabbitMQ on this machine.")
def main(database_url: str, broker_url: str) -> None:
    """Samples the API process for ten seconds of full load."""
    py_spy = shutil.which("py-spy")
    if py_spy is None:
        click.echo("py-spy is not on the PATH: uv tool install py-spy", err=True)
        sys.exit(2)
    try:
        _profile(py_spy, Servers(database_url, broker_url))
    except BenchmarkFailed as error:
        click.echo(f"millpond: {error}", err=True)
        sys.exit(1)


def _profile(py_spy: str, servers: Servers) -> None:
    with on_fresh_servers(servers, Millpond) as stack, tempfile.TemporaryDirectory() as folder:
        warm_up(stack)
        api = stack.processes["api"]
        before_s = api.cpu_s()
        per_s, jobs = submit_at_full_speed(stack)
        click.echo(f"{per_s:,.0f} jobs/s, {(api.cpu_s() - before_s) / jobs * 1e6:,.0f} µs of CPU a job in the API process")
        serving = psutil.Process(api.pid).children()[0].pid
        raw = Path(folder) / "samples"
        # Without --nonblocking it stops the process for each sample, and a thread that often lets go of the interpreter shows four times too large.
        arguments = ["record", "--gil", "--nonblocking", "-f", "raw", "-d", str(SAMPLE_S), "-r", str(SAMPLES_PER_S), "-o", str(raw), "-p", str(serving)]
        sampler = subprocess.Popen([py_spy, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        submit_at_full_speed(stack, for_s=SAMPLE_S + 1)
        if sampler.wait(60):
            raise BenchmarkFailed("py-spy failed; it must be allowed to trace the API process")
        click.echo(shares(raw.read_text().splitlines()))


def shares(lines: Iterable[str]) -> str:
    """Functions by share of samples, from py-spy's raw format: a stack and a count on each line."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] or frame for frame in stack.split(";")]  # without the line's number
        own[frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
    total = own.total()
    parts = []
    for title, counter in (("by their own time", own), ("with what they call", below)):
        parts.append(f"\n{title}, of {total} samples:")
        parts += [f"{samples / total:7.1%}  {frame}" for frame, samples in counter.most_common(SHOWN)]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
