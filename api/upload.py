"""Reads an upload: ``multipart/form-data`` with one part, ``file``, whose content goes on piece by piece as it comes."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import chain

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, Preamble

from api.context import context
from api.json_gate import pointer_token
from api.media import unsupported_format
from domain.errors import BodyTooLarge, FieldError, InvalidMultipart, UnsupportedEncoding, UnsupportedMediaType, ValidationFailed
from domain.media import HEAD_BYTES, MAX_CONTENT_BYTES, sniff
from models.queries.files import Content

FORM = "multipart/form-data"
UPLOAD_S = 120.0  # for the whole body: 25 MiB at 2 Mbit/s
PIECE_BYTES = 262_144
WRAPPING_BYTES = 16_384  # what stands around the content, at most
MAX_BOUNDARY_CHARS = 70  # RFC 2046
MAX_FILENAME_CHARS = 255
_PART = "file"


class Upload:
    """One upload under way: its name and its type are known, its content is still to come.

    Attributes:
        filename: as the client calls it, without folders; None if it does not.

    Raises:
        RequestError: as ``read_upload``.
    """

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.filename = _begin(events)
        self._rest = _content(events)
        self._head = b""
        while len(self._head) < HEAD_BYTES and (piece := next(self._rest, None)) is not None:
            self._head += piece
        content_type = sniff(self._head[:HEAD_BYTES])
        if content_type is None:
            raise ValidationFailed(errors=[unsupported_format(f"/{_PART}", None)])
        self._content_type = content_type
        self._hash = sha256()
        self._bytes = 0

    def pieces(self) -> Iterator[bytes]:
        """The content; to be gone through once.

        Raises:
            RequestError: at its end, too: nothing may follow the part.
        """
        for piece in chain([self._head], self._rest):
            self._bytes += len(piece)
            if self._bytes > MAX_CONTENT_BYTES:
                raise _too_large()
            self._hash.update(piece)
            yield piece
        for event in self._events:
            if not isinstance(event, Epilogue):
                raise _further_part(event)

    @property
    def content(self) -> Content:
        """What is known of the content; ask when all of it was read."""
        return Content(self._bytes, self._content_type, self._hash.digest())


def read_upload() -> Upload:
    """The upload that this request is.

    Raises:
        UnsupportedMediaType, UnsupportedEncoding, BodyTooLarge, IncompleteBody, InvalidMultipart: as their names say; a body whose Content-Length is
            over the limit is not read.
        ValidationFailed: it has another part, or more than one; or content of no format that is taken.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != FORM or not boundary or len(boundary) > MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise UnsupportedMediaType(f"The body must be {FORM} with a boundary.")
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedEncoding
    return Upload(_events(boundary.encode()))


def _events(boundary: bytes) -> Iterator[Event]:
    """The body, taken apart as it comes."""
    limit_bytes, length = MAX_CONTENT_BYTES + WRAPPING_BYTES, request.content_length
    if length is not None and length > limit_bytes:
        raise _too_large()
    body = context().bodies.pieces(request.environ, limit_bytes=limit_bytes, length=length, piece_bytes=PIECE_BYTES, total_s=UPLOAD_S)
    decoder = MultipartDecoder(boundary, max_form_memory_size=2 * PIECE_BYTES)
    try:
        for piece in chain(body, (None,)):
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData):
                yield event
                if isinstance(event, Epilogue):
                    return
    except RequestEntityTooLarge as error:
        raise InvalidMultipart("What stands around the content is too long.") from error
    except ValueError as error:  # what the decoder raises, whatever is wrong
        raise InvalidMultipart from error


def _begin(events: Iterator[Event]) -> str | None:
    """The file's name, from the head of the part."""
    for event in events:
        if isinstance(event, File | Field):
            if event.name != _PART:
                raise _further_part(event)
            return _filename(event.filename) if isinstance(event, File) else None
        if not isinstance(event, Preamble):
            break
    raise ValidationFailed(errors=[FieldError(f"/{_PART}", "required", "is required")])


def _content(events: Iterator[Event]) -> Iterator[bytes]:
    for event in events:
        assert isinstance(event, Data)
        if event.data:
            yield event.data
        if not event.more_data:
            return


def _filename(given: str) -> str | None:
    name = given.replace("\\", "/").rpartition("/")[2]
    if len(name) > MAX_FILENAME_CHARS:
        raise ValidationFailed(errors=[FieldError(f"/{_PART}", "too_long", f"must be called by at most {MAX_FILENAME_CHARS} characters")])
    if not name.isprintable():
        raise ValidationFailed(errors=[FieldError(f"/{_PART}", "invalid_characters", "must be called by printable characters")])
    return name or None


def _further_part(event: Event) -> ValidationFailed:
    name = event.name if isinstance(event, File | Field) else None
    if name == _PART:
        return ValidationFailed(errors=[FieldError(f"/{_PART}", "too_many_items", "must be one file")])
    return ValidationFailed(errors=[FieldError(f"/{pointer_token(name or '')}", "unknown_field", "is no part of an upload")])


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"A file has at most {MAX_CONTENT_BYTES} bytes.")
