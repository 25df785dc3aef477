"""Names to addresses, with a deadline: the system's resolver has none."""

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from domain.outbound import Address

Lookup = Callable[[str, int], Sequence[Address]]
MAX_ADDRESSES = 32  # a name with more is not resolved any further


class NotResolved(Exception):
    """A name has no address, or its servers do not say so in time."""


class Resolver:
    """Looks names up in a few daemon threads; who waits gives up at a deadline, whatever the thread does.

    A name that is being looked up is not looked up again beside it: those who ask wait for the same answer. Nothing is kept after that.

    Args:
        threads: lookups at once; they start as they are needed.
        lookup: the system's resolver unless given.
    """

    def __init__(self, *, threads: int, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or look_up
        self._most = threads
        self._idle = 0
        self._threads = 0
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Future[Sequence[Address]]] = {}
        self._asked: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()

    def resolve(self, host: str, port: int, *, timeout_s: float) -> list[Address]:
        """All addresses of a name, in the order in which they should be tried; at least one.

        Raises:
            NotResolved: there is none, or it took too long.
        """
        try:
            return list(self._ask(host, port).result(max(0.0, timeout_s)))
        except FutureTimeout as error:
            raise NotResolved(f"{host} was not resolved within {timeout_s:.1f} s") from error

    def _ask(self, host: str, port: int) -> Future[Sequence[Address]]:
        with self._lock:
            answer = self._under_way.get((host, port))
            if answer is None:
                answer = self._under_way[host, port] = Future()
                self._asked.put((host, port))
                if self._idle < self._asked.qsize() and self._threads < self._most:
                    self._threads += 1
                    threading.Thread(target=self._run, name="resolver", daemon=True).start()
            return answer

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            asked = self._asked.get()
            with self._lock:
                self._idle -= 1
            try:
                addresses = self._lookup(*asked)
                if not addresses:
                    raise NotResolved(f"{asked[0]} has no address")  # noqa: TRY301 - the same way out as an error of the lookup
            except Exception as error:  # noqa: BLE001 - whatever a lookup raises belongs to those who wait for it
                self._settle(asked).set_exception(error if isinstance(error, NotResolved) else NotResolved(f"{asked[0]}: {error}"))
            else:
                self._settle(asked).set_result(addresses)

    def _settle(self, asked: tuple[str, int]) -> Future[Sequence[Address]]:
        with self._lock:
            return self._under_way.pop(asked)


def look_up(host: str, port: int) -> list[Address]:
    """Asks the system's resolver, for as long as it takes.

    Raises:
        NotResolved: it says that there is no such name, or gives more addresses than any honest one has.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotResolved(f"{host}: {error.strerror if isinstance(error, OSError) else error}") from error
    addresses = list(dict.fromkeys(ipaddress.ip_address(sockaddr[0]) for _, _, _, _, sockaddr in found))
    if len(addresses) > MAX_ADDRESSES:
        raise NotResolved(f"{host} has {len(addresses)} addresses")
    return addresses
