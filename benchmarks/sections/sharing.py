"""Two workers of one pool and a backlog: does the second, started later, get its share; do a fast and a slow one end together?"""

import time
from collections.abc import Callable

from benchmarks.harness.load import BenchmarkFailed, drive
from benchmarks.harness.report import Finding
from benchmarks.harness.servers import Servers
from benchmarks.harness.stacks import Millpond
from benchmarks.sections.peers import CONNECTIONS, warm_up

DELAY_MS = 500  # a batch sleeps so long: what two workers share is time, not the machine's cores
SUBMIT_S = 8.0
FAST_CHILDREN, SLOW_CHILDREN = 3, 1
LEAST_SHARE = 0.35  # of what is done once both run; half would be even
MOST_IDLE = 0.2  # of the time both ran, that one may stand idle at the end while the other still works

_BY_WORKER = """
    SELECT split_part(worker, ':', 1), count(*), extract(epoch FROM min(started_at)), extract(epoch FROM max(ended_at))
    FROM job_attempts WHERE started_at >= to_timestamp(%(since)s) GROUP BY 1
"""
_HAS_BEGUN = "SELECT EXISTS (SELECT FROM job_attempts WHERE worker LIKE '{}:%')"


def measure(servers: Servers, *, say: Callable[[str], None]) -> list[Finding]:
    """Both pairs, once each: shares are counted, not timed against each other."""
    first_later = _share(servers, {"first": 1, "later": 1}, say)
    fast_slow = _share(servers, {"fast": FAST_CHILDREN, "slow": SLOW_CHILDREN}, say)
    later = first_later.share("later")
    slow, fair = fast_slow.share("slow"), SLOW_CHILDREN / (FAST_CHILDREN + SLOW_CHILDREN)
    idle = max(first_later.idle, fast_slow.idle)
    return [
        Finding("share of a worker started later", f"{later:.0%}", "50 % is even", "", f"≥ {LEAST_SHARE:.0%}", later >= LEAST_SHARE),
        Finding("share of a slow worker beside one 3× as fast", f"{slow:.0%}", f"{fair:.0%} is even", "", f"≥ {fair * 0.7:.0%}", slow >= fair * 0.7),
        Finding("one idle at the end while the other works", f"{idle:.0%} of the time", "", "", f"≤ {MOST_IDLE:.0%}", idle <= MOST_IDLE),
    ]


class _Shares:
    def __init__(self, done: dict[str, tuple[int, float, float]], since: float) -> None:
        self._done = done
        ends = [ended_at for _, _, ended_at in done.values()]
        self.idle = (max(ends) - min(ends)) / (max(ends) - since)

    def share(self, name: str) -> float:
        """Of the jobs that were begun since both ran."""
        return self._done[name][0] / sum(jobs for jobs, _, _ in self._done.values())


def _share(servers: Servers, workers: dict[str, int], say: Callable[[str], None]) -> _Shares:
    job_input = {"payload": "shared", "delay_ms": DELAY_MS}
    with servers.database("sharing") as database_url, servers.vhost() as broker_url, Millpond(database_url, broker_url, job_input=job_input) as stack:
        stack.start_api()
        warm_up(stack)
        mark = stack.mark()
        load = drive(stack.port, stack.submit, number=CONNECTIONS, for_s=SUBMIT_S)
        stack.wait_until_published()
        since = 0.0
        for name, children in workers.items():  # one after the other: the first has filled its buffer when the next begins
            stack.start_worker(name, children=children)
            stack.database.wait_for(_HAS_BEGUN.format(name), within_s=60, alive=stack.check)
            since = time.time()
        stack.finished_since(mark, within_s=600, jobs=load.answers[202])
        done = {str(name): (int(jobs), float(began), float(ended)) for name, jobs, began, ended in stack.database.rows(_BY_WORKER, {"since": since})}
    if set(done) != set(workers):
        raise BenchmarkFailed(f"only {', '.join(done)} had anything to do once both ran: the backlog of {load.answers[202]} jobs was too short")
    say("  " + ", ".join(f"{name} ({workers[name]} children): {jobs} jobs" for name, (jobs, _, _) in done.items()))
    return _Shares(done, since)
