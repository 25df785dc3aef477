"""Objects by key, through fsspec: a folder of this machine, or a bucket.

An object is written once, under a key of its own, and never changed. In a folder it is written beside its place, synced and moved there; in a bucket it
appears when its upload is complete. Libraries for S3 are imported by nobody who does not use S3.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

BLOCK_BYTES = 5 * 1024 * 1024  # kept in memory of an object on its way to S3, whose parts must have at least so much
CONNECT_S, READ_S, TRIES = 3, 15, 2  # so a call to a store that hangs takes half a minute at most
_PART = ".part"


class StoreAway(Exception):
    """The store does not answer, is full, or does not let us in; nothing is known of the object."""


class StoreRefuses(StoreAway):
    """The store answers, and does not do it: we have no right to, or something keeps the object."""


class ObjectGone(Exception):
    """The store has no object of this key."""


def object_name(file_id: UUID) -> str:
    """The name of a new object below its tenant's folder; not to be guessed by who knows the id."""
    return f"{file_id.hex}-{secrets.token_hex(16)}"


def object_key(tenant_id: UUID, file_id: UUID) -> str:
    """A new object's whole key."""
    return f"{tenant_id.hex}/{object_name(file_id)}"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """Where a store is.

    Attributes:
        url: ``file:///folder``, ``s3://bucket/prefix``, or ``memory://`` in tests.
        endpoint_url: of an S3-compatible store; Amazon's own unless given.
        access_key: who we are there; else as the environment of the process says.
        secret_key: goes with it.
    """

    url: str
    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)


class ObjectStore:
    """All objects below one URL; threads share it."""

    def __init__(self, location: StoreLocation) -> None:
        options: dict[str, Any] = {"skip_instance_cache": True}
        if location.url.startswith("s3://"):
            options |= {"key": location.access_key, "secret": location.secret_key, "endpoint_url": location.endpoint_url, "use_listings_cache": False}
            options["config_kwargs"] = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"total_max_attempts": TRIES}}
        elif location.url.startswith("file://"):
            options["auto_mkdir"] = True
        self._files, root = cast("tuple[AbstractFileSystem, str]", fsspec.url_to_fs(location.url, **options))
        if location.url.startswith("s3://"):
            bucket = cast("Any", self._files)
            bucket.retries = 1  # S3's client tries again itself; five times as often, a hanging store held a child for minutes
            with contextlib.suppress(Exception):  # on a busy machine a client may take seconds to make, more than a read has; what is wrong, the first use says
                sync(bucket.loop, bucket.set_session)
        self._root = root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)
        if self._local:
            with contextlib.suppress(OSError):
                Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, key: str, pieces: Iterable[bytes]) -> None:
        """Stores an object; little of it is in memory at a time. If it fails half-way, ``delete`` takes away what is there.

        Raises:
            StoreAway: it is not stored. What ``pieces`` raises comes through as it is.
        """
        path = self._path(key)
        with self._mapped(missing=StoreAway):
            stream = self._files.open(path + _PART if self._local else path, "wb", block_size=BLOCK_BYTES)
        try:
            for piece in pieces:
                with self._mapped(missing=StoreAway):
                    stream.write(piece)
            with self._mapped(missing=StoreAway):
                if self._local:
                    stream.flush()
                    os.fsync(stream.fileno())
                stream.close()
                if self._local:
                    self._files.mv(path + _PART, path)
        except BaseException:
            _abandon(stream)
            raise

    def read(self, key: str, *, timeout_s: float | None = None) -> bytes:
        """A whole object.

        Args:
            key: its key.
            timeout_s: how long it may take in all; of a bucket only, as a folder's reads cannot be given up.

        Raises:
            StoreAway, ObjectGone: as their names say; it is away if it has not answered in time, too.
        """
        with self._mapped():
            if timeout_s is None or not isinstance(self._files, AsyncFileSystem):
                return bytes(self._files.cat_file(self._path(key)))
            return bytes(sync(self._files.loop, _within, self._files, self._path(key), timeout_s))

    def open(self, key: str) -> IO[bytes]:
        """An object to be read piece by piece, from any place in it; close it.

        Raises:
            StoreAway, ObjectGone: as their names say. Reading it raises ``OSError``.
        """
        with self._mapped():
            return cast("IO[bytes]", self._files.open(self._path(key), "rb", block_size=BLOCK_BYTES))

    def delete(self, key: str) -> None:
        """Takes an object away, whole or half written; one that is not there is none to take.

        Raises:
            StoreAway: it may be there still; ``StoreRefuses`` where the store has answered that.
        """
        path = self._path(key)
        for each in (path, path + _PART) if self._local else (path,):
            with contextlib.suppress(ObjectGone), self._mapped():
                self._files.rm_file(each)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def _mapped(self, *, missing: type[Exception] = ObjectGone) -> Iterator[None]:
        """The one place where errors of file systems, of fsspec and of S3's client become ours."""
        try:
            yield
        except FileNotFoundError as error:
            away = self._local and not Path(self._root).is_dir()  # a folder that is not mounted has lost nothing
            kind = StoreAway if away else missing
            raise kind(str(error)) from error
        except Exception as error:
            kind = StoreRefuses if _refuses(error) else StoreAway
            raise kind(f"{type(error).__name__}: {error}"[:300]) from error


def _refuses(error: Exception) -> bool:
    """Whether it is an answer about one object: s3fs makes these of ``AccessDenied``, ``InvalidRequest`` and their like, and others of an ill server."""
    return isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EINVAL)


async def _within(files: AsyncFileSystem, path: str, timeout_s: float) -> bytes:
    return cast("bytes", await asyncio.wait_for(files._cat_file(path), timeout_s))  # noqa: SLF001 - what fsspec's asynchronous file systems offer in its place


def _abandon(stream: Any) -> None:
    """Lets go of a stream without completing its object: closed as usual, S3's would appear, cut short."""
    with contextlib.suppress(Exception):
        if isinstance(stream, AbstractBufferedFile):
            stream.discard()
            stream.closed = True
        else:
            stream.close()
