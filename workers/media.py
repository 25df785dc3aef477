"""The binary inputs of a micro-batch, from where they are to bytes in memory, before the model runs.

Each job's fails alone. What waits for others (a server, the store of files) goes side by side, and no transaction is open meanwhile.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID

from domain.contracts import Base64Input, Blob, Contract, FileInput, Media, UrlInput
from domain.delivery import TryError
from domain.failures import FilesUnavailable, InferenceError, InputFetchFailed, InputGone, InputSourceAway, InvalidBase64, UnsupportedFormat
from domain.ids import Prefix, decode
from domain.media import HEAD_BYTES, MAX_CONTENT_BYTES, MediaKind, decode_base64, formats_of, is_of_kind, sniff
from domain.outbound import RefusedUrl, parse_url
from storage.objects import ObjectGone, ObjectStore, StoreAway
from workers.outbound.client import Bounds, OutboundClient, RequestFailed

FETCH_S = 20.0  # of all URLs and files of a micro-batch, and never over half of the attempt's time-out
FETCHES = 16  # at once: as many as the largest micro-batch of the catalogue with binary inputs, so that nobody waits for another's
BOUNDS = Bounds(total_s=FETCH_S, answer_bytes=MAX_CONTENT_BYTES + 1)
_FOR_GOOD = frozenset({TryError.ADDRESS_FORBIDDEN, TryError.TLS_FAILED})
_FOR_NOW = frozenset({408, 425, 429})  # of the statuses below 500
_OK = 200

Resolved = Mapping[str, Blob] | InferenceError


@dataclass(frozen=True, slots=True)
class MediaResolver:
    """Finds the content of binary inputs.

    Attributes:
        client: fetches URLs; its bounds should be ``BOUNDS``.
        store: holds the files that jobs name.
        find: the keys of those files, as ``files_of_jobs`` gives them; asked once a micro-batch, if one names any.
    """

    client: OutboundClient
    store: ObjectStore
    find: Callable[[Sequence[tuple[UUID, UUID]]], Mapping[tuple[UUID, UUID], str]]

    def resolve(self, inputs: Sequence[tuple[UUID, Contract]], media: Mapping[str, MediaKind | None], *, timeout_s: float) -> list[Resolved]:
        """The binary fields of each input, or the error that ends its run.

        Args:
            inputs: of a micro-batch, each with its job.
            media: their binary fields, as ``media_fields`` gives them.
            timeout_s: of the attempt.
        """
        until = time.monotonic() + min(self.client.bounds.total_s, timeout_s / 2)
        given = [(job_id, {name: getattr(value, name) for name in media if getattr(value, name) is not None}) for job_id, value in inputs]
        named = [
            (job_id, file_id)
            for job_id, fields in given
            for form in fields.values()
            if isinstance(form, FileInput) and (file_id := decode(Prefix.FILE, form.file_id)) is not None
        ]
        keys = self.find(named) if named else {}

        def one(job: tuple[UUID, Mapping[str, Media]]) -> Resolved:
            job_id, fields = job
            try:
                return {name: _blob(self._content(form, job_id, keys, until=until), media[name]) for name, form in fields.items()}
            except InferenceError as error:
                return error

        return _side_by_side(one, given)

    def _content(self, form: Media, job_id: UUID, keys: Mapping[tuple[UUID, UUID], str], *, until: float) -> bytes:
        match form:
            case Base64Input(base64=text):
                content = decode_base64(text)
                if content is None:
                    raise InvalidBase64
                return content
            case UrlInput(url=url):
                left_s = until - time.monotonic()
                if left_s <= 0:  # its mates' came too slowly; had each its own time, a few such rounds would outlast the attempt of all
                    raise InputSourceAway("the URL was not fetched: there was no time left")
                return fetch(replace(self.client, bounds=replace(self.client.bounds, total_s=left_s)), url)
            case FileInput(file_id=public_id):
                file_id = decode(Prefix.FILE, public_id)
                key = keys.get((job_id, file_id)) if file_id else None
                if key is None:
                    raise InputGone
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise FilesUnavailable("the file was not read: there was no time left")
                try:
                    return self.store.read(key, timeout_s=left_s)
                except ObjectGone as error:
                    raise InputGone from error
                except StoreAway as error:
                    raise FilesUnavailable from error


def _side_by_side(one: Callable[[tuple[UUID, Mapping[str, Media]]], Resolved], given: Sequence[tuple[UUID, Mapping[str, Media]]]) -> list[Resolved]:
    """What is in the input already is read at once; threads are started only for what waits for others."""
    waiting = [index for index, (_, fields) in enumerate(given) if any(not isinstance(form, Base64Input) for form in fields.values())]
    if len(waiting) < 2:
        return [one(job) for job in given]
    with ThreadPoolExecutor(min(len(waiting), FETCHES), thread_name_prefix="media") as threads:
        fetched = dict(zip(waiting, threads.map(one, [given[index] for index in waiting]), strict=True))
    return [fetched[index] if index in fetched else one(job) for index, job in enumerate(given)]


def _blob(content: bytes, kind: MediaKind | None) -> Blob:
    content_type = sniff(content[:HEAD_BYTES])
    if content_type is None or not is_of_kind(content_type, kind):
        raise UnsupportedFormat(f"the content is {content_type or 'of no format that is known here'}; it must be one of {formats_of(kind)}")
    return Blob(content, content_type)


def fetch(client: OutboundClient, url: str) -> bytes:
    """The content at a URL, by one GET.

    Raises:
        InputFetchFailed: there is none to be had: a refused address, an answer other than 200, over 25 MiB; nothing of the answer is told.
        InputSourceAway: there may be one later.
    """
    try:
        target = parse_url(url, allow_private=client.allow_private)
    except RefusedUrl as error:
        raise InputFetchFailed(f"the URL {error}") from error
    with client.line() as line:
        try:
            answer = line.request("GET", target, headers={})
        except RequestFailed as error:
            kind = InputFetchFailed if error.error in _FOR_GOOD else InputSourceAway
            raise kind(f"the URL could not be fetched: {error}") from error
    status = answer.status_code
    if status != _OK:
        kind = InputSourceAway if status >= 500 or status in _FOR_NOW else InputFetchFailed
        raise kind(f"the URL was answered with {status}{'; redirects are not followed' if 300 <= status < 400 else ''}")
    if not answer.whole:
        raise InputFetchFailed(f"the content at the URL has over {MAX_CONTENT_BYTES} bytes")
    return answer.body
