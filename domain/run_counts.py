"""What is counted of the runs of one model: how many, how they failed, how long they took, what they used. Counts can be added up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from domain.failures import WorkerLost
from domain.histogram import quantile_ms
from domain.routing.failover import Fault, fault_of


@dataclass(slots=True)
class RunCounts:
    """Counts of runs.

    Attributes:
        runs: that ended, well or not; a run inside a bisect that ran again counts once.
        jobs: that ended with one of them.
        failures: by code.
        run_ms: a histogram (``domain.histogram``) of how long successful runs took, batch mates included.
        cost_usd: at the model's price, or as its provider said; that of failed runs as far as it is known.
    """

    runs: int = 0
    jobs: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    run_ms: Counter[int] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def add(self, other: "RunCounts") -> None:
        """Adds another's counts to these."""
        self.runs += other.runs
        self.jobs += other.jobs
        self.failures.update(other.failures)
        self.run_ms.update(other.run_ms)
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost_usd += other.cost_usd

    def quantile_ms(self, share: float) -> float | None:
        """How long the given share of successful runs took at most; None where there was none."""
        return quantile_ms(self.run_ms, share)


def failures_of_the_model(failures: Mapping[str, int]) -> int:
    """How many of the failures were the model's own, not their inputs': else one tenant's bad inputs would turn every tenant's routes.

    As for failover, but that a process which died with the job alone in it died of the model, whoever runs the job next, and that of an input beyond
    what it does another model may be asked, but its own next input is none the worse.
    """
    return sum(count for code, count in failures.items() if _is_the_models(code))


def _is_the_models(code: str) -> bool:
    return code == WorkerLost.code or fault_of(code) in {Fault.PROVIDER, Fault.MODEL}
