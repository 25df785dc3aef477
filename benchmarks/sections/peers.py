"""Against the tutorial stack: submit, drain, together, idle, memory; turn and turn about on empty servers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.harness.load import BenchmarkFailed, connections, drive, percentile
from benchmarks.harness.processes import Memory, let_settle
from benchmarks.harness.report import Finding, at_least, median, spread
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import Millpond, Stack, Tutorial, on_fresh_servers

CONNECTIONS = 16
WARM_UP_S = 1.0
WARM_UP_JOBS = 20
SUBMIT_S = 10.0
IDLE_JOBS = 200
IDLE_PAUSE_S = 0.01  # between two jobs: the system is to be idle when one comes
DRAIN_WITHIN_S = 600.0
QUESTIONS = ("submit", "drain", "idle", "together", "memory")


@dataclass(slots=True)
class Figures:
    """What one stack reached, a value for each turn."""

    submit_per_s: list[float] = field(default_factory=list)
    drain_per_s: list[float] = field(default_factory=list)
    together_per_s: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    memory: list[dict[str, Memory]] = field(default_factory=list)


def measure(servers: Servers, *, pairs: int, only: Sequence[str], say: Callable[[str], None], peer: type[Stack] = Tutorial) -> list[Finding]:
    """Runs ``pairs`` turns of each stack, A B A B, and compares medians.

    Args:
        servers: a database and a virtual host of their own are made there for each turn.
        pairs: at least three for figures that are to be believed.
        only: of ``QUESTIONS``.
        say: told what comes out as it goes.
        peer: the stack to compare with.
    """
    ours, theirs = Figures(), Figures()
    for pair in range(pairs):
        for kind, figures in ((Millpond, ours), (peer, theirs)):
            with on_fresh_servers(servers, kind) as stack:
                _turn(stack, figures, only)
            say(f"  {pair + 1}. {kind.name}: {_last(figures)}")
    findings = list(_compared(ours, theirs, only))
    return findings if peer is Tutorial else [replace(finding, bar="", kept=None) for finding in findings]  # the bars are set against the tutorial


def submit_at_full_speed(stack: Stack, *, for_s: float = SUBMIT_S) -> tuple[float, int]:
    """Loads the API with 16 connections; returns jobs a second, and how many were accepted.

    Raises:
        BenchmarkFailed: anything but the status of an accepted job was answered.
    """
    load = drive(stack.port, stack.submit, number=CONNECTIONS, for_s=for_s)
    if set(load.answers) != {stack.accepted}:
        raise BenchmarkFailed(f"{stack.name}: answers by status: {dict(load.answers)}")
    return load.per_s(stack.accepted), load.answers[stack.accepted]


def warm_up(stack: Stack) -> None:
    """Connections, pools and compiled statements exist before anything is measured."""
    drive(stack.port, stack.submit, number=CONNECTIONS, for_s=WARM_UP_S)
    stack.wait_until_published()


def _turn(stack: Stack, figures: Figures, only: Sequence[str]) -> None:
    warm_up(stack)
    mark = stack.mark()
    per_s, accepted = submit_at_full_speed(stack)
    figures.submit_per_s.append(per_s)
    if set(only) == {"submit"}:
        return
    stack.wait_until_published()
    stack.database.vacuum()
    stack.start_workers()
    drained = stack.finished_since(mark, within_s=DRAIN_WITHIN_S, jobs=accepted)
    if "drain" in only:
        figures.drain_per_s.append(drained.per_s)
    stack.database.vacuum()
    let_settle()
    if "idle" in only:
        with connections(stack.port, 1) as (connection,):
            for _ in range(WARM_UP_JOBS):
                stack.time_one(connection)
            took_s = []
            for _ in range(IDLE_JOBS):
                time.sleep(IDLE_PAUSE_S)
                took_s.append(stack.time_one(connection))
        figures.p50_ms.append(percentile(took_s, 0.50) * 1_000)
        figures.p99_ms.append(percentile(took_s, 0.99) * 1_000)
    if "together" in only:
        mark, began_at = stack.mark(), time.time()
        _, accepted = submit_at_full_speed(stack)
        run = stack.finished_since(mark, within_s=DRAIN_WITHIN_S, jobs=accepted)
        figures.together_per_s.append(run.jobs / (run.ended_at - began_at))
    figures.memory.append(stack.memory())


def _compared(ours: Figures, theirs: Figures, only: Sequence[str]) -> Sequence[Finding]:
    findings = []
    for what, label, bar, mine, other in (
        ("submit", "submit/s", 2.5, ours.submit_per_s, theirs.submit_per_s),
        ("drain", "drain/s", 30.0, ours.drain_per_s, theirs.drain_per_s),
        ("together", "together/s", 7.0, ours.together_per_s, theirs.together_per_s),
    ):
        if what in only:
            ratio, shown_bar, kept = at_least(median(mine) / median(other), bar)
            findings.append(Finding(label, spread(mine), spread(other), ratio, shown_bar, kept))
    if "idle" in only:
        p50, other_p50 = median(ours.p50_ms), median(theirs.p50_ms)
        kept = p50 <= 15 and p50 <= other_p50
        findings += [
            Finding("idle p50, ms", spread(ours.p50_ms, 1), spread(theirs.p50_ms, 1), f"{p50 / other_p50:.2f}×", "≤ 15 ms, ≤ 1×", kept),
            Finding("idle p99, ms", spread(ours.p99_ms, 1), spread(theirs.p99_ms, 1), f"{median(ours.p99_ms) / median(theirs.p99_ms):.2f}×"),
        ]
    if "memory" in only:
        findings += [Finding(f"{part}, MiB RSS (PSS)", _memory(ours, part), _memory(theirs, part)) for part in ("api", "worker", "maintenance")]
    return findings


def _memory(figures: Figures, part: str) -> str:
    held = [turn[part] for turn in figures.memory if part in turn]
    return f"{median([memory.rss_mib for memory in held]):.0f} ({median([memory.pss_mib for memory in held]):.0f})" if held else "–"


def _last(figures: Figures) -> str:
    named = (
        ("submit/s", figures.submit_per_s),
        ("drain/s", figures.drain_per_s),
        ("together/s", figures.together_per_s),
        ("p50 ms", figures.p50_ms),
        ("p99 ms", figures.p99_ms),
    )
    return ", ".join(f"{name} {values[-1]:,.1f}" for name, values in named if values)
