"""Checks the binary inputs of a job, as far as that can be done before it runs."""

from collections.abc import Mapping

from domain.contracts import Base64Input, Contract, UrlInput
from domain.errors import FieldError
from domain.media import HEAD_BYTES, MediaKind, decode_base64, formats_of, is_of_kind, sniff
from domain.outbound import RefusedUrl, parse_url


def media_errors(value: Contract, media: Mapping[str, MediaKind | None], *, allow_private: bool, pointer: str) -> list[FieldError]:
    """What is wrong with content that is inside the request, and with the URLs of content that is not.

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
            case UrlInput(url=url):
                try:
                    parse_url(url, allow_private=allow_private)
                except RefusedUrl as error:
                    errors.append(FieldError(f"{pointer}/{name}/url", error.code, str(error)))
    return errors


def unsupported_format(pointer: str, kind: MediaKind | None) -> FieldError:
    """Says which formats would do."""
    return FieldError(pointer, "unsupported_format", f"must be one of {formats_of(kind)}")
