"""What is known of a model while it runs: the half of a routing decision that the catalogue cannot say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """How one model is doing, over all workers; the defaults are those of a model of which nothing is known.

    Attributes:
        latency_ms: rolling median of how long its runs took, 0 or more; None while none is known.
        p95_ms: the same at the 95th percentile.
        error_rate: share of its recent attempts that failed for the model's reason, 0 to 1.
        queued_per_worker: due jobs that wait in its pool, for each child process that runs that pool; 0 or more.
        workers: worker processes of its pool that are ready.
        quality: catalogue and feedback together, 0 to 1; None where neither says anything.
        breaker_open: whether its breaker lets no job through now.
    """

    latency_ms: float | None = None
    p95_ms: float | None = None
    error_rate: float = 0.0
    queued_per_worker: float = 0.0
    workers: int = 0
    quality: float | None = None
    breaker_open: bool = False

    @property
    def cold(self) -> bool:
        """Whether no run of it is known."""
        return self.latency_ms is None and self.error_rate == 0.0


COLD = ModelFacts()
