"""One mixed load, five ways to choose a model: what `cheapest` saves and how much sooner `fastest` answers than any fixed choice.

Three models do one task, each in a pool with one child: `flat` at a price per job, `metered` at a price per token, `quick` at three times the
speed and five times the price. Jobs come in bursts, as they do; four in five are short.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.harness.load import BenchmarkFailed, Connection, connections, percentile, post
from benchmarks.harness.report import Finding, median, spread
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import KEY, Millpond

BURST, EVERY_S, BURSTS = 6, 0.5, 20
SHORT, LONG = "a" * 200, "a" * 8_000
LONG_EVERY = 5
CONNECTIONS = 40
WAIT_S = 30
MOST_COST = 0.8  # of the cheapest fixed choice
MOST_P95 = 0.9  # of the fastest fixed choice

# Delays in ms; prices in dollars.
MODELS: Mapping[str, tuple[int, str]] = {
    "flat": (60, 'price.per_job_usd = "0.004"'),
    "metered": (60, 'price.per_million_input_tokens_usd = "4"'),
    "quick": (20, 'price.per_job_usd = "0.02"'),
}
_CATALOGUE = """
[tasks."debug.echo"]
contract = "domain.task_types.debug_echo"
default_model = "flat"
production = false
"""
_MODEL = """
[pools.{name}]
concurrency = 1
[models.{name}]
task = "debug.echo"
pool = "{name}"
backend = "benchmarks.peers.paced_echo:PacedEcho"
version = "1"
options = {{ delay_ms = {delay_ms} }}
{price}
"""
_COST = "SELECT CAST(sum(cost_usd) AS float8) / count(*) FROM jobs WHERE id >= %(mark)s AND status = 'succeeded'"
_SHARES = "SELECT model, count(*) FROM jobs WHERE id >= %(mark)s GROUP BY model ORDER BY model"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came of one turn: dollars for a thousand jobs, and from submit to answer in ms."""

    cost_usd: float
    p95_ms: float


def measure(servers: Servers, *, pairs: int, say: Callable[[str], None]) -> list[Finding]:
    """All five in turn, as often as is asked."""
    ways: dict[str, dict[str, Any]] = {f"fixed {name}": {"model": name} for name in MODELS}
    ways |= {policy: {"route": {"policy": policy}} for policy in ("cheapest", "fastest")}
    seen: dict[str, list[_Seen]] = {way: [] for way in ways}
    with _platform(servers) as stack, connections(stack.port, CONNECTIONS) as opened:
        free: SimpleQueue[Connection] = SimpleQueue()
        for connection in opened:
            free.put(connection)
        for name in MODELS:
            _bursts(stack, free, {"model": name}, bursts=4)
        time.sleep(4.0)  # workers count runs once a second, the API looks every two
        for _ in range(pairs):
            for way, fields in ways.items():
                mark = stack.mark()
                latencies = _bursts(stack, free, fields, bursts=BURSTS)
                cost_usd = float(stack.database.row(_COST, {"mark": mark})[0]) * 1_000
                seen[way].append(_Seen(cost_usd, percentile(latencies, 0.95) * 1_000))
                shares = ", ".join(f"{model} {count}" for model, count in stack.database.rows(_SHARES, {"mark": mark}))
                say(f"  {way}: ${cost_usd:.2f} for 1,000 jobs, p95 {seen[way][-1].p95_ms:.0f} ms; {shares}")
    return [_cost(seen), _p95(seen)]


def _cost(seen: Mapping[str, list[_Seen]]) -> Finding:
    costs = {way: median([turn.cost_usd for turn in turns]) for way, turns in seen.items()}
    best = min((way for way in costs if way.startswith("fixed ")), key=costs.__getitem__)
    ratio = costs["cheapest"] / costs[best]
    theirs = f"${costs[best]:.2f} ({best}; the default ${costs['fixed flat']:.2f})"
    return Finding("`cheapest`, 1,000 mixed jobs", f"${costs['cheapest']:.2f}", theirs, f"{ratio:.2f}×", f"≤ {MOST_COST:g}×", ratio <= MOST_COST)


def _p95(seen: Mapping[str, list[_Seen]]) -> Finding:
    times = {way: [turn.p95_ms for turn in turns] for way, turns in seen.items()}
    best = min((way for way in times if way.startswith("fixed ")), key=lambda way: median(times[way]))
    ratio = median(times["fastest"]) / median(times[best])
    theirs = f"{spread(times[best])} ms ({best}; the default {median(times['fixed flat']):.0f})"
    return Finding("`fastest`, p95 of the same jobs", f"{spread(times['fastest'])} ms", theirs, f"{ratio:.2f}×", f"≤ {MOST_P95:g}×", ratio <= MOST_P95)


@contextmanager
def _platform(servers: Servers) -> Iterator[Millpond]:
    """The API, maintenance and a worker a model."""
    with tempfile.TemporaryDirectory() as folder, servers.database("routing") as database_url, servers.vhost() as broker_url:
        catalogue = Path(folder) / "catalogue.toml"
        models = (_MODEL.format(name=name, delay_ms=delay_ms, price=price) for name, (delay_ms, price) in MODELS.items())
        catalogue.write_text(_CATALOGUE + "".join(models), encoding="utf-8")
        settings = {"MILLPOND_CATALOGUE": str(catalogue), "MILLPOND_API_THREADS": "96"}
        with Millpond(database_url, broker_url, settings=settings) as stack:
            stack.start_api()
            for name in MODELS:
                stack.start_worker(name, children=1, pool=name)
            ready = f"SELECT count(*) = {len(MODELS)} FROM worker_processes WHERE ready"
            stack.database.wait_for(ready, within_s=60, alive=stack.check)
            yield stack


def _bursts(stack: Millpond, free: SimpleQueue[Connection], fields: Mapping[str, Any], *, bursts: int) -> list[float]:
    """Sends bursts at fixed times, whatever became of the ones before; how long each job took, in seconds."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        began, asked = time.perf_counter(), []
        for number in range(bursts * BURST):
            if number % BURST == 0:
                time.sleep(max(0.0, began + number // BURST * EVERY_S - time.perf_counter()))
            payload = LONG if number % LONG_EVERY == 0 else SHORT
            body = json.dumps({"task": "debug.echo", "input": {"payload": payload}, **fields}).encode()
            request = post("/v1/jobs", body, {"Authorization": f"Bearer {KEY}", "Prefer": f"wait={WAIT_S}"})
            asked.append(pool.submit(_ask, free, request))
        latencies = [each.result() for each in asked]
    stack.check()
    return latencies


def _ask(free: SimpleQueue[Connection], request: bytes) -> float:
    began = time.perf_counter()
    connection = free.get()
    answer = connection.ask(request)
    free.put(connection)
    if answer.status != 200:
        raise BenchmarkFailed(f"a held submit answered {answer.status}: {answer.body[:300]!r}")
    return time.perf_counter() - began
