"""A blackboard between a worker's main process and its children: a small file that all of them map into memory.

One place a dispatch. The child writes who it is, which jobs it is running and until when it may; the main process reads that
to keep time and, when a child dies, to tell the culprit from its company. The main process writes stop flags; the child reads
them between steps. Single bytes and aligned eight-byte fields are written whole, so no lock is needed.
"""

import mmap
import struct
import time
from enum import IntEnum
from pathlib import Path
from typing import Self

MAX_JOBS = 2_048  # ids in one dispatch: a largest batch and a message over it
_HEADER = struct.Struct("<qdq")  # the child's pid; when (CLOCK_MONOTONIC) the running micro-batch is over its time; the dispatch's number
_PLACE_BYTES = _HEADER.size + 2 * MAX_JOBS


class Progress(IntEnum):
    """How far the child is with one job."""

    UNKNOWN = 0  # not claimed yet, as far as the child has said
    WAITING = 1  # claimed; its micro-batch has not begun
    RUNNING = 2  # in the micro-batch that runs now
    DONE = 3  # nothing is left to do


class Board:
    """The mapped file; both sides open it by path."""

    def __init__(self, path: Path, places: int) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), places * _PLACE_BYTES)

    @classmethod
    def create(cls, path: Path, places: int) -> Self:
        """Makes the file, for ``places`` dispatches at once, and opens it."""
        path.write_bytes(bytes(places * _PLACE_BYTES))
        return cls(path, places)

    def place(self, number: int) -> "Place":
        """One dispatch's part."""
        return Place(self._memory, number * _PLACE_BYTES)


class Place:
    """The part of the board that belongs to one dispatch; jobs are named by their index in it."""

    def __init__(self, memory: mmap.mmap, start: int) -> None:
        self._memory = memory
        self._start = start
        self._progress = start + _HEADER.size
        self._stop = self._progress + MAX_JOBS

    def clear(self, dispatch_number: int = 0) -> None:
        """Makes the place new, before a dispatch."""
        self._memory[self._start : self._start + _PLACE_BYTES] = bytes(_PLACE_BYTES)
        struct.pack_into("<q", self._memory, self._start + 16, dispatch_number)

    # --- written by the child

    def enter(self, pid: int) -> None:
        """The child has begun."""
        struct.pack_into("<qd", self._memory, self._start, pid, 0.0)

    def run_until(self, timeout_s: float) -> None:
        """A micro-batch begins and may take so long."""
        struct.pack_into("<d", self._memory, self._start + 8, time.monotonic() + timeout_s)

    def rest(self) -> None:
        """No micro-batch runs; nothing is over its time."""
        struct.pack_into("<d", self._memory, self._start + 8, 0.0)

    def set_progress(self, index: int, progress: Progress) -> None:
        """How far the job at an index is."""
        self._memory[self._progress + index] = progress

    def stopped(self, index: int) -> bool:
        """Whether the main process says that the job at an index is wanted no longer."""
        return self._memory[self._stop + index] != 0

    # --- read, and written, by the main process

    @property
    def pid(self) -> int:
        """The child's, 0 before it has begun."""
        return int(_HEADER.unpack_from(self._memory, self._start)[0])

    @property
    def dispatch_number(self) -> int:
        """Of the dispatch that the place belongs to; a child that comes for another one is too late."""
        return int(_HEADER.unpack_from(self._memory, self._start)[2])

    @property
    def over_time(self) -> bool:
        """Whether the micro-batch that runs now has run longer than it may."""
        until = float(_HEADER.unpack_from(self._memory, self._start)[1])
        return until > 0 and time.monotonic() > until

    def progress(self, index: int) -> Progress:
        """How far the job at an index is, as the child last said."""
        return Progress(self._memory[self._progress + index])

    def stop(self, index: int) -> None:
        """Asks the child to stop the job at an index."""
        self._memory[self._stop + index] = 1
