"""Binary content: the formats that are taken, told apart by their first bytes, and base64 read strictly.

What a client says of its content (a header, a file's name, a declared type) is never believed: it would be read by whatever it claims to be.
The list is closed. What is on it is what the decoders of the models read; archives, documents and pickles are not, whatever they are called.
"""

import binascii
from collections.abc import Mapping
from enum import StrEnum

MAX_CONTENT_BYTES = 26_214_400  # API.md: 25 MiB
HEAD_BYTES = 4_096  # what telling a format apart needs, at most


class MediaKind(StrEnum):
    """What a binary input is for."""

    IMAGE = "image"
    AUDIO = "audio"


FORMATS: Mapping[str, tuple[MediaKind, str]] = {
    "image/png": (MediaKind.IMAGE, "png"),
    "image/jpeg": (MediaKind.IMAGE, "jpg"),
    "image/gif": (MediaKind.IMAGE, "gif"),
    "image/webp": (MediaKind.IMAGE, "webp"),
    "image/bmp": (MediaKind.IMAGE, "bmp"),
    "image/tiff": (MediaKind.IMAGE, "tiff"),
    "audio/wav": (MediaKind.AUDIO, "wav"),
    "audio/flac": (MediaKind.AUDIO, "flac"),
    "audio/mpeg": (MediaKind.AUDIO, "mp3"),
    "audio/ogg": (MediaKind.AUDIO, "ogg"),
    "audio/mp4": (MediaKind.AUDIO, "m4a"),
    "audio/webm": (MediaKind.AUDIO, "webm"),
}
"""Every type that uploads and inputs may have: its kind, and the ending of a file's name."""

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS\x00", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_M4A_BRANDS = (b"M4A ", b"M4B ", b"mp42", b"mp41", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"dash")
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_MATROSKA = b"\x1a\x45\xdf\xa3"


def sniff(head: bytes) -> str | None:
    """What content is, by its first bytes; None for anything that is not in ``FORMATS``.

    Args:
        head: the first ``HEAD_BYTES`` of it, or all if there are fewer.
    """
    for start, content_type in _STARTS:
        if head.startswith(start):
            return content_type
    if head[:4] in {b"RIFF", b"RF64"}:
        return _RIFF.get(head[8:12])
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    if head[4:8] == b"ftyp" and head[8:12] in _M4A_BRANDS:
        return "audio/mp4"
    if head.startswith(_MATROSKA) and b"webm" in head[:64]:
        return "audio/webm"
    return "audio/mpeg" if _is_mpeg_audio(head) else None


def is_of_kind(content_type: str | None, kind: MediaKind | None) -> bool:
    """Whether content of a type may stand where this kind is asked for; where none is, any type of the list may."""
    return content_type is not None and content_type in FORMATS and (kind is None or FORMATS[content_type][0] is kind)


def formats_of(kind: MediaKind | None) -> str:
    """The names of the formats of a kind, for a sentence: ``png, jpg, …``."""
    return ", ".join(ending for found, ending in FORMATS.values() if kind is None or found is kind)


def decode_base64(text: str) -> bytes | None:
    """The content of base64 as RFC 4648 has it; None for everything else.

    White space, the alphabet for URLs, padding that is missing or too much, and ``data:`` URLs are all refused: whoever sends those would else
    depend on which of them this program happens to repair.
    """
    if len(text) % 4:  # the strict mode of Python 3.11 overlooks one sign too many
        return None
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one, and so is what is not ASCII
        return None


def _is_mpeg_audio(head: bytes) -> bool:
    """A frame of MPEG audio at the very start: 11 bits set, then a version, a layer, a bit rate and a sample rate that exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bit_rate, sample_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer != 0 and bit_rate not in {0, 15} and sample_rate != 3
