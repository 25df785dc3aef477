"""The binary inputs of a micro-batch, from where they are to bytes in memory, before the model runs.

Each job's fails alone. What waits for others (a server, the store of files) goes side by side, and no transaction is open meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from domain.contracts import Base64Input, Blob, Contract, Media, UrlInput
from domain.delivery import TryError
from domain.errors import InferenceError, InputFetchFailed, InputSourceAway, InvalidBase64, UnsupportedFormat
from domain.media import HEAD_BYTES, MAX_CONTENT_BYTES, MediaKind, decode_base64, formats_of, is_of_kind, sniff
from domain.outbound import RefusedUrl, parse_url
from workers.outbound.client import Bounds, OutboundClient, RequestFailed

FETCH_S = 20.0  # of one URL, and never over half of the attempt's time-out
FETCHES = 8  # at once
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
    """

    client: OutboundClient

    def resolve(self, values: Sequence[Contract], media: Mapping[str, MediaKind | None], *, timeout_s: float) -> list[Resolved]:
        """The binary fields of each input, or the error that ends its run.

        Args:
            values: the inputs of a micro-batch.
            media: their binary fields, as ``media_fields`` gives them.
            timeout_s: of the attempt.
        """
        client = replace(self.client, bounds=replace(self.client.bounds, total_s=min(self.client.bounds.total_s, timeout_s / 2)))
        given = [{name: getattr(value, name) for name in media if getattr(value, name) is not None} for value in values]

        def one(fields: Mapping[str, Media]) -> Resolved:
            try:
                return {name: _blob(_content(client, form), media[name]) for name, form in fields.items()}
            except InferenceError as error:
                return error

        return _side_by_side(one, given)


def _side_by_side(one: Callable[[Mapping[str, Media]], Resolved], given: Sequence[Mapping[str, Media]]) -> list[Resolved]:
    """What is in the input already is read at once; threads are started only for what waits for others."""
    waiting = [index for index, fields in enumerate(given) if any(not isinstance(form, Base64Input) for form in fields.values())]
    if len(waiting) < 2:
        return [one(fields) for fields in given]
    with ThreadPoolExecutor(min(len(waiting), FETCHES), thread_name_prefix="media") as threads:
        fetched = dict(zip(waiting, threads.map(one, [given[index] for index in waiting]), strict=True))
    return [fetched[index] if index in fetched else one(fields) for index, fields in enumerate(given)]


def _content(client: OutboundClient, form: Media) -> bytes:
    if isinstance(form, Base64Input):
        content = decode_base64(form.base64)
        if content is None:
            raise InvalidBase64
        return content
    assert isinstance(form, UrlInput)
    return fetch(client, form.url)


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
