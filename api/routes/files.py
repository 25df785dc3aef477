"""Files: upload, look, list, read, delete."""

import re
from contextlib import suppress
from urllib.parse import quote
from uuid import UUID

import structlog
from flask import Blueprint, Response, request
from werkzeug.wsgi import FileWrapper

from api.answers import json_answer
from api.auth import principal
from api.context import context
from api.errors import problem
from api.operation import Answer, Parameter, operation
from api.query import DEFAULT_LIMIT, MAX_LIMIT, cursor, limit, read_query, write_cursor
from api.schemas.files import File, FileList, Upload
from api.upload import read_upload
from api.urls import base_url
from domain.errors import (
    BodyTooLarge,
    IncompleteBody,
    InvalidMultipart,
    NotAvailable,
    NotFound,
    Overloaded,
    RangeNotSatisfiable,
    ServiceUnavailable,
    StorageQuotaExceeded,
    UnsupportedEncoding,
    UnsupportedMediaType,
    ValidationFailed,
)
from domain.ids import Prefix, decode
from domain.media import FORMATS, MAX_CONTENT_BYTES
from models.identity import new_id
from models.job_json import file_json
from models.queries.files import FileView, begin_file, complete_file, delete_file, get_file, give_up_file, list_files
from models.transactions import DatabaseAway, LockedRow, statement
from storage.objects import ObjectGone, StoreAway, object_key

blueprint = Blueprint("files", __name__, url_prefix="/v1/files")
log = structlog.get_logger(__name__)

STORE_RETRY_S = 5.0
_ONE_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)

_ID = Parameter("file_id", "path", "The file's id.", required=True)
_IF_NONE_MATCH = Parameter("If-None-Match", "header", "An `ETag` of this content: the answer is 304.")
_RANGE = Parameter("Range", "header", "`bytes=0-1023`: a part of the content. One at a time: who asks for several, or in another unit, gets all.")
_IF_RANGE = Parameter("If-Range", "header", "An `ETag`: a part of this content alone, or all of what is there instead.")
_PAGE = (
    Parameter("limit", "query", "Files on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
    Parameter("cursor", "query", "The `next_cursor` of the page before."),
)
_CONTENT_HEADERS = {"ETag": "The content's SHA-256.", "Content-Disposition": "`attachment`, with a name.", "Accept-Ranges": "`bytes`."}


@blueprint.post("")
@operation(
    summary="Upload a file",
    tag="Files",
    description='For inputs of jobs: `{"file_id": "file_…"}`. The content itself decides what it is, whatever the request says of it: '
    "png, jpeg, gif, webp, bmp, tiff; wav, flac, mp3, ogg, m4a, webm. `Idempotency-Key` is not taken: content that is sent twice is two files. "
    "What a tenant may store is bounded; an upload of no Content-Length counts for 25 MiB until it is read.",
    form=Upload,
    answers={201: Answer("The file.", File, headers={"Location": "The file."})},
    errors=(
        BodyTooLarge,
        IncompleteBody,
        InvalidMultipart,
        UnsupportedMediaType,
        UnsupportedEncoding,
        ValidationFailed,
        NotAvailable,
        StorageQuotaExceeded,
        Overloaded,
    ),
)
def upload_file() -> Response:
    """Takes content: a row first, then the object, then the row says that it is whole."""
    api, tenant_id = context(), principal().tenant_id
    if "Idempotency-Key" in request.headers:
        raise NotAvailable("Uploads take no Idempotency-Key; content that is sent twice is two files.")
    upload = read_upload()
    file_id = new_id()
    key = object_key(tenant_id, file_id)
    with statement(api.engine) as connection:
        most_bytes = min(request.content_length or MAX_CONTENT_BYTES, MAX_CONTENT_BYTES)
        stored_bytes = begin_file(
            connection,
            file_id=file_id,
            tenant_id=tenant_id,
            object_key=key,
            filename=upload.filename,
            size_bytes=most_bytes,
            quota_bytes=api.files_quota_bytes,
        )
    if stored_bytes is not None:
        raise StorageQuotaExceeded(
            f"You store {stored_bytes} of {api.files_quota_bytes} bytes, and this upload may have {most_bytes}; delete files, or wait until some expire."
        )
    try:
        api.files.write(key, upload.pieces())
    except Exception as error:
        with suppress(DatabaseAway, LockedRow), statement(api.engine) as connection:
            give_up_file(connection, file_id=file_id)
        if isinstance(error, StoreAway):
            raise _away(error) from error
        raise
    with statement(api.engine) as connection:
        file = complete_file(connection, file_id=file_id, content=upload.content, retention_s=api.files_retention_s)
    if file is None:
        raise ServiceUnavailable("The upload took too long; send it again.", retry_after_s=1.0)
    body = file_json(file, base_url())
    return json_answer(body, 201, {"Location": body["urls"]["self"]})


@blueprint.get("")
@operation(
    summary="List the files",
    tag="Files",
    description="Those that were uploaded, and those that jobs gave; the newest first.",
    parameters=_PAGE,
    answers={200: Answer("A page of files.", FileList, headers={"Link": 'The next page, as `<…>; rel="next"`; not on the last one.'})},
)
def list_of_files() -> Response:
    """A page of the caller's files."""
    given = read_query({"limit": limit, "cursor": cursor})
    wanted: int = given.get("limit", DEFAULT_LIMIT)
    with statement(context().engine) as connection:
        files = list_files(connection, tenant_id=principal().tenant_id, before=given.get("cursor"), limit=wanted + 1)
    page, base = files[:wanted], base_url()
    following = write_cursor(page[-1].id) if len(files) > wanted else None
    headers = {"Link": f'<{base}/v1/files?limit={wanted}&cursor={following}>; rel="next"'} if following else None
    return json_answer({"data": [file_json(file, base) for file in page], "next_cursor": following}, headers=headers)


@blueprint.get("/<file_id>")
@operation(summary="Look at a file", tag="Files", parameters=(_ID,), answers={200: Answer("The file.", File)}, errors=(NotFound,))
def look_at_file(file_id: str) -> Response:
    """What is known of one file."""
    return json_answer(file_json(_find(file_id), base_url()))


@blueprint.get("/<file_id>/content")
@operation(
    summary="Read a file",
    tag="Files",
    parameters=(_ID, _IF_NONE_MATCH, _RANGE, _IF_RANGE),
    answers={
        200: Answer("The content.", media_type="application/octet-stream", headers=_CONTENT_HEADERS),
        206: Answer("The part that was asked for.", media_type="application/octet-stream", headers={**_CONTENT_HEADERS, "Content-Range": "Which part."}),
        304: Answer("You have it already.", headers={"ETag": "As it was sent."}),
    },
    errors=(NotFound, RangeNotSatisfiable),
)
def read_file(file_id: str) -> Response:
    """The content, as it was found to be; to be saved, never to be shown as part of a page."""
    file = _find(file_id)
    try:
        stream = context().files.open(file.object_key)
    except ObjectGone as error:
        log.warning("a file's object is gone", file=str(file.id))
        raise _not_found() from error
    except StoreAway as error:
        raise _away(error) from error
    answer = Response(FileWrapper(stream), mimetype=file.content_type, direct_passthrough=True)
    answer.call_on_close(stream.close)
    answer.content_length = file.size_bytes
    answer.set_etag(file.sha256.hex())
    answer.headers["Content-Disposition"] = _attachment(_name(file))
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer.make_conditional(request.environ)
    answer.accept_ranges = "bytes"
    part = _part(file.size_bytes) if answer.status_code == 200 and request.headers.get("If-Range", answer.headers["ETag"]) == answer.headers["ETag"] else None
    if part is not None and len(part) == 0:
        stream.close()
        refusal = problem(RangeNotSatisfiable())
        refusal.headers["Content-Range"] = f"bytes */{file.size_bytes}"
        return refusal
    if part is not None:
        answer.make_conditional({**request.environ, "HTTP_RANGE": f"bytes={part.start}-{part.stop - 1}"}, accept_ranges=True, complete_length=file.size_bytes)
    return answer


def _part(size_bytes: int) -> range | None:
    """The one part of the content that is asked for, empty if there is no such part.

    None for the whole of it: as RFC 9110 has it, whoever asks for several parts, in another unit, or for what is no part gets all.
    """
    asked = _ONE_RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or request.method != "GET":
        return None
    first, last, suffix = asked.groups()
    if suffix is not None:
        return range(max(0, size_bytes - int(suffix)), size_bytes)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size_bytes) if last else size_bytes)


@blueprint.delete("/<file_id>")
@operation(
    summary="Delete a file",
    tag="Files",
    description="It is gone at once, and its content is erased soon after. Jobs that were still to read it fail with `input_gone`.",
    parameters=(_ID,),
    answers={204: Answer("It is gone.")},
    errors=(NotFound,),
)
def remove_file(file_id: str) -> Response:
    """Hides a file for good."""
    wanted = _decoded(file_id)
    with statement(context().engine) as connection:
        if not delete_file(connection, tenant_id=principal().tenant_id, file_id=wanted):
            raise _not_found()
    return Response(status=204)


def _find(public_id: str) -> FileView:
    wanted = _decoded(public_id)
    with statement(context().engine) as connection:
        file = get_file(connection, tenant_id=principal().tenant_id, file_id=wanted)
    if file is None:
        raise _not_found()
    return file


def _decoded(public_id: str) -> UUID:
    file_id = decode(Prefix.FILE, public_id)
    if file_id is None:
        raise _not_found()
    return file_id


def _not_found() -> NotFound:
    return NotFound("There is no such file.")


def _name(file: FileView) -> str:
    """What to save it as: the upload's name, or one that ends as its format does."""
    ending = "json" if file.content_type == "application/json" else FORMATS[file.content_type][1] if file.content_type in FORMATS else "bin"
    return file.filename or f"{file.id.hex}.{ending}"


def _attachment(name: str) -> str:
    """RFC 6266: the name for those who read it as RFC 5987 has it, and in ASCII for the others."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _away(error: StoreAway) -> ServiceUnavailable:
    log.warning("the store of files is away", error=str(error))
    return ServiceUnavailable("The store of files is away; ask again later.", retry_after_s=STORE_RETRY_S)
