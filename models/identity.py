"""Makes new ids: UUIDv7 that rise strictly within a process, so that ids made in one order sort in that order."""

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last_tick = 0


def new_id() -> UUID:
    """A new id. The 12 bits below the millisecond hold its fraction (RFC 9562, method 3), so ids of one process never tie."""
    global _last_tick  # noqa: PLW0603 - the process-wide clock of ids is what makes them rise
    now_ns = time.time_ns()
    tick = (now_ns // 1_000_000) << 12 | (now_ns % 1_000_000) * 4096 // 1_000_000
    with _lock:
        _last_tick = tick = max(tick, _last_tick + 1)
    tail = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    return UUID(int=(tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | tail)
