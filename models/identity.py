"""Makes new ids: UUIDv7 that rise strictly within a process, so that ids made in one order sort in that order."""

import os
import threading
import time
from uuid import UUID

ENTROPY_IDS = 512  # asked of the system at once: each call lets go of the interpreter, and under load another thread takes it

_lock = threading.Lock()
_last_tick = 0
_entropy = b""


def new_id() -> UUID:
    """A new id. The 12 bits below the millisecond hold its fraction (RFC 9562, method 3), so ids of one process never tie."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[UUID]:
    """So many new ids, rising; one call is cheaper than many."""
    global _last_tick, _entropy  # noqa: PLW0603 - the process-wide clock of ids is what makes them rise
    now_ns = time.time_ns()
    tick = (now_ns // 1_000_000) << 12 | (now_ns % 1_000_000) * 4096 // 1_000_000
    with _lock:
        first = max(tick, _last_tick + 1)
        _last_tick = first + count - 1
        if len(_entropy) < 8 * count:
            _entropy = os.urandom(8 * max(count, ENTROPY_IDS))
        entropy, _entropy = _entropy[: 8 * count], _entropy[8 * count :]
    ids = []
    for place in range(count):
        tick, tail = first + place, int.from_bytes(entropy[8 * place : 8 * place + 8]) & (1 << 62) - 1
        ids.append(UUID(int=(tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | tail))
    return ids


def _forget_entropy() -> None:
    global _entropy  # noqa: PLW0603
    _entropy = b""


os.register_at_fork(after_in_child=_forget_entropy)  # or parent and child would draw the same
