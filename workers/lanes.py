"""The lanes: what has come from the broker and waits in a worker's main process, by priority and model, and which of it goes next."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from domain.job import Priority

# Ageing: a message competes as if it had come so much later, so a lower lane gives way, but never for longer than this.
LANE_HANDICAP_S = {Priority.INTERACTIVE: 0.0, Priority.STANDARD: 2.0, Priority.FLEX: 20.0}
MORE_WITHIN_S = 0.03  # the broker hands over a lane's next messages when its last ones are acknowledged; until they are here no lower lane slips in


class BrokerMessage(Protocol):
    """What is needed of kombu's message."""

    payload: Any
    delivery_info: dict[str, Any]

    def ack(self) -> None:
        """Acknowledges; raises what the transport raises when its connection is gone."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in a lane.

    Attributes:
        rank: the moment it came, and its lane's handicap; the lowest goes first.
    """

    message: BrokerMessage
    ids: tuple[UUID, ...]
    solo: bool
    rank: float


class Lanes:
    """Messages by lane and model; used in one thread.

    Args:
        max_batch_size: of each model.
        clock: seconds, monotonic.
    """

    def __init__(self, max_batch_size: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._max_batch_size = max_batch_size
        self._clock = clock
        self._waiting: dict[tuple[Priority, str], deque[Waiting]] = {}
        self._acknowledged_at: dict[Priority, float] = {}
        self._held_back_since: float | None = None

    def clear(self) -> None:
        """Forgets what waits, and for whom: of another connection."""
        self._waiting.clear()
        self._acknowledged_at.clear()
        self._held_back_since = None

    def add(self, lane: Priority, model: str, message: BrokerMessage, ids: tuple[UUID, ...], *, solo: bool) -> None:
        """A message has come."""
        self._waiting.setdefault((lane, model), deque()).append(Waiting(message, ids, solo, self._clock() + LANE_HANDICAP_S[lane]))

    def acknowledged(self, lane: Priority) -> None:
        """Messages of a lane are about to be acknowledged: the broker hands over its next ones."""
        self._acknowledged_at[lane] = self._clock()

    def held_back_s(self) -> float:
        """How long what would go next leaves the way to a more urgent lane whose next messages are about to come; 0 for not at all, or where nothing waits.

        ``MORE_WITHIN_S`` at most from the first acknowledgement, whatever is acknowledged meanwhile. What has outwaited its lane's handicap leaves it to
        nobody.
        """
        now = self._clock()
        rank, (lane, _) = self._next() or (now, (Priority.INTERACTIVE, ""))
        urgent = [at for other, at in self._acknowledged_at.items() if LANE_HANDICAP_S[other] < LANE_HANDICAP_S[lane]]
        acknowledged_at = max(urgent, default=-math.inf)
        if rank <= now or acknowledged_at + MORE_WITHIN_S <= now:
            self._held_back_since = None
            return 0.0
        if self._held_back_since is None:
            self._held_back_since = acknowledged_at
        return max(0.0, self._held_back_since + MORE_WITHIN_S - now)

    def take(self) -> tuple[Priority, str, list[Waiting]] | None:
        """Lane, model and messages of the best batch there is: as many as fit into one of the model, a solo message alone. None where nothing waits."""
        found = self._next()
        if found is None:
            return None
        self._held_back_since = None
        lane, model = found[1]
        group, limit = self._waiting[lane, model], self._max_batch_size[model]
        taken = [group.popleft()]
        jobs = len(taken[0].ids)
        while group and not taken[0].solo and not group[0].solo and jobs + len(group[0].ids) <= limit:
            taken.append(group.popleft())
            jobs += len(taken[-1].ids)
        return lane, model, taken

    def _next(self) -> tuple[float, tuple[Priority, str]] | None:
        return min(((group[0].rank, key) for key, group in self._waiting.items() if group), default=None)
