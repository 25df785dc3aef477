"""A broker for each test: a virtual host of its own on RabbitMQ, a numbered database of its own on Valkey or Redis."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from urllib.parse import quote, urlsplit, urlunsplit

import psutil
from redis import Redis

_OURS = re.compile(r"millpond_test_(\d+)_\d+")
_MADE_AT_ONCE = 4  # rabbitmqctl takes a second to start, whatever it is asked


class Vhosts:
    """Virtual hosts of one RabbitMQ for one test session."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._user = urlsplit(server_url).username or "guest"
        self._numbers = count(1)
        self._unused: list[str] = []
        self._made: list[str] = []

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of an empty virtual host; nothing else uses it, before or after."""
        if not self._unused:
            self._make()
        yield urlunsplit(urlsplit(self.server_url)._replace(path="/" + quote(self._unused.pop(), safe="")))

    def delete_all(self) -> None:
        """Deletes every virtual host of this session, and of test sessions that died."""
        if self._made:
            rabbitmqctl("eval", " ".join(f'catch rabbit_vhost:delete(<<"{name}">>, <<"tests">>),' for name in self._made) + " ok.")
            self._made.clear()
            self._unused.clear()

    def _make(self) -> None:
        names = [f"millpond_test_{os.getpid()}_{next(self._numbers)}" for _ in range(_MADE_AT_ONCE)]
        steps = [
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{self._user}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>),'
            for name in names
        ]
        self._made += names
        there = rabbitmqctl("eval", " ".join(steps) + " rabbit_vhost:list_names().")
        self._made += [match[0] for match in _OURS.finditer(there) if not psutil.pid_exists(int(match[1])) and match[0] not in self._made]
        self._unused += names


def rabbitmqctl(*arguments: str, timeout_s: float = 60.0) -> str:
    """Runs ``rabbitmqctl`` and returns what it prints.

    Raises:
        RuntimeError: it failed, or is not there; the message has its words.
    """
    try:
        done = subprocess.run(["rabbitmqctl", "-q", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("rabbitmqctl is not on the PATH") from error
    if done.returncode:
        raise RuntimeError(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class NumberedDatabases:
    """The numbered databases of one Valkey or Redis; takes only empty ones, and leaves them empty."""

    def __init__(self, server_url: str, *, numbers: range = range(16)) -> None:
        self.server_url = server_url
        self._numbers = numbers

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of an empty database.

        Raises:
            RuntimeError: none is empty.
        """
        for number in self._numbers:
            url = urlunsplit(urlsplit(self.server_url)._replace(path=f"/{number}"))
            with closing(Redis.from_url(url)) as client:
                if client.dbsize() == 0 and client.set("millpond_test", os.getpid(), nx=True, ex=7_200):  # two sessions may look at once
                    break
        else:
            raise RuntimeError(f"none of the numbered databases of {self.server_url} is empty")
        try:
            yield url
        finally:
            with closing(Redis.from_url(url)) as client:
                client.flushdb()
