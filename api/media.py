"""Checks the binary inputs of a job, as far as that can be done before it runs."""

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection

from domain.contracts import Base64Input, Contract, FileInput, UrlInput
from domain.errors import FieldError
from domain.ids import Prefix, decode
from domain.media import HEAD_BYTES, MediaKind, decode_base64, formats_of, is_of_kind, sniff
from domain.outbound import RefusedUrl, parse_url
from models.queries.files import get_files
from models.queries.submit import NamedFile, NewJob


def media_errors(value: Contract, media: Mapping[str, MediaKind | None], *, allow_private: bool, pointer: str) -> list[FieldError]:
    """What is wrong with content that is inside the request, and with the ids and URLs of content that is not.

    Args:
        value: a job's input.
        media: its binary fields, as ``media_fields`` gives them.
        allow_private: whether URLs may lead to private addresses.
        pointer: where in the body the input stands.
    """
    errors = []
    for name, kind in media.items():
        match getattr(value, name):
            case Base64Input(base64=text):
                content = decode_base64(text)
                if content is None:
                    errors.append(FieldError(f"{pointer}/{name}/base64", "invalid_base64", "must be base64 as RFC 4648 has it, padded, without line breaks"))
                elif not is_of_kind(sniff(content[:HEAD_BYTES]), kind):
                    errors.append(unsupported_format(f"{pointer}/{name}/base64", kind))
            case FileInput(file_id=public_id):
                if decode(Prefix.FILE, public_id) is None:
                    errors.append(_unknown_file(f"{pointer}/{name}/file_id"))
            case UrlInput(url=url):
                try:
                    parse_url(url, allow_private=allow_private)
                except RefusedUrl as error:
                    errors.append(FieldError(f"{pointer}/{name}/url", error.code, str(error)))
    return errors


def named_files(value: Contract, media: Mapping[str, MediaKind | None], *, pointer: str) -> Iterator[NamedFile]:
    """The files that an input names."""
    for name, kind in media.items():
        given = getattr(value, name)
        if isinstance(given, FileInput) and (file_id := decode(Prefix.FILE, given.file_id)) is not None:
            yield NamedFile(file_id, f"{pointer}/{name}/file_id", kind)


def file_errors(connection: Connection, jobs: Sequence[NewJob]) -> list[FieldError]:
    """What is wrong with the files that jobs of one tenant name; one query, and none where no job names any.

    Ask it of new jobs only: who repeats a request with its Idempotency-Key gets the first one's job, whatever became of the file.
    """
    named = [file for job in jobs for file in job.files]
    if not named:
        return []
    found = get_files(connection, tenant_id=jobs[0].tenant_id, ids={file.id for file in named})
    errors = []
    for file in named:
        if file.id not in found:
            errors.append(_unknown_file(file.pointer))
        elif not is_of_kind(found[file.id].content_type, file.kind):
            errors.append(unsupported_format(file.pointer, file.kind))
    return errors


def _unknown_file(pointer: str) -> FieldError:
    return FieldError(pointer, "unknown_file", "names no file of yours; it may have expired")


def unsupported_format(pointer: str, kind: MediaKind | None) -> FieldError:
    """Says which formats would do."""
    return FieldError(pointer, "unsupported_format", f"must be one of {formats_of(kind)}")
