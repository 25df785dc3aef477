"""300 requests held by one API process (`Prefer: wait`): are submits as fast as without them?"""

import select
from collections.abc import Callable

from benchmarks.harness.load import BenchmarkFailed, connections
from benchmarks.harness.processes import let_settle
from benchmarks.harness.report import Finding, median, spread
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import Millpond, on_fresh_servers
from benchmarks.sections.peers import submit_at_full_speed, warm_up

HELD = 300  # three quarters of the 400 threads that an API process has by default
WAIT_S = 30
HELD_BEFORE_S = 8.0  # a wait is looked at often in its first seconds: what is asked here is what holding costs
LOAD_S = 8.0
FLOOR = 0.9  # «unaffected»: within what two runs of the same differ by


def measure(servers: Servers, *, pairs: int, say: Callable[[str], None]) -> list[Finding]:
    """Submits at full speed with and without 300 held waits, turn and turn about, on one process; no workers run."""
    without, with_waits = [], []
    with on_fresh_servers(servers, Millpond) as stack:
        assert isinstance(stack, Millpond)
        warm_up(stack)
        for pair in range(pairs):
            without.append(submit_at_full_speed(stack, for_s=LOAD_S)[0])
            with_waits.append(_submit_beside_waits(stack))
            say(f"  {pair + 1}. submit/s without {without[-1]:,.0f}, beside {HELD} held waits {with_waits[-1]:,.0f}")
    ratio = median(with_waits) / median(without)
    return [Finding(f"submit/s beside {HELD} held waits", spread(with_waits), spread(without), f"{ratio:.2f}×", f"≥ {FLOOR:g}×", ratio >= FLOOR)]


def _submit_beside_waits(stack: Millpond) -> float:
    with connections(stack.port, HELD) as held:
        for connection in held:
            connection.socket.sendall(stack.submit_and_wait(WAIT_S))
        let_settle(HELD_BEFORE_S)
        per_s, _ = submit_at_full_speed(stack, for_s=LOAD_S)
        answered, _, _ = select.select(held, [], [], 0)
        if answered:
            raise BenchmarkFailed(f"{len(answered)} of {HELD} waits were answered before their time: {answered[0].read().body[:300]!r}")
        for connection in held:
            answer = connection.read()
            if answer.status != 202 or f"preference-applied: wait={WAIT_S}".encode() not in answer.head.lower():
                raise BenchmarkFailed(f"a held wait answered {answer.status}: {answer.head.decode(errors='replace')}")
    return per_s
