"""What content is found to be, and which base64 is read."""

import base64
import io
import pickle
import wave
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.media import FORMATS, MediaKind, decode_base64, is_of_kind, sniff


def png(width: int = 1, height: int = 1) -> bytes:
    """A whole image, all black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    rows = zlib.compress(b"".join(b"\0" * (width + 1) for _ in range(height)))
    head = width.to_bytes(4) + height.to_bytes(4) + b"\x08\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav(frames: int = 8) -> bytes:
    """A whole sound, all silent."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(b"\0\0" * frames)
    return file.getvalue()


def archive() -> bytes:
    """A zip file, as documents and arrays are too."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("image.png", png())
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
        (b"GIF89a\1\0\1\0", "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp"),
        (b"II*\0\x08\0\0\0", "image/tiff"),
        (b"MM\0*\0\0\0\x08", "image/tiff"),
        (wav(), "audio/wav"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\2", "audio/ogg"),
        (b"ID3\4\0\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "audio/webm"),
    ],
)
def test_sniff_knows_every_format_of_the_list(content: bytes, content_type: str) -> None:
    assert sniff(content) == content_type
    assert is_of_kind(content_type, None)
    assert [is_of_kind(content_type, kind) for kind in MediaKind] == [content_type.startswith("image/"), content_type.startswith("audio/")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is .png",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        b"<svg onload='alert(1)'/>",
        b"<!doctype html>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"SIMPLE  =                    T",
        archive(),
        pickle.dumps({"a": 1}),
        b"\x1f\x8b\x08" + png(),
        b"ustar",
        b"\x93NUMPY\1\0",
        b"RIFF\x24\0\0\0AVI LIST",
        b"BM, said the text",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\0\x20ftypavif",
        b"\xff\xff\xff\xff",
        b"\xff\xfe<\0h\0",
        b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
        b"\x7fELF",
        b"MZ",
        b"\x89PNG\n",
    ],
)
def test_sniff_takes_nothing_else(content: bytes) -> None:
    assert sniff(content) is None


@given(st.binary(max_size=80))
def test_sniff_of_anything_is_on_the_list_or_none(content: bytes) -> None:
    assert sniff(content) in {None, *FORMATS}


@given(st.binary(max_size=200))
def test_base64_gives_back_what_was_encoded(content: bytes) -> None:
    assert decode_base64(base64.b64encode(content).decode()) == content


@pytest.mark.parametrize(
    "text",
    ["AA", "AA=", "A===", "AA==AA==", "AAAA=", "=AAA", "AA A=", "AAAA\n", "AA\r\nAA", " AAAA", "_-8=", "data:image/png;base64,AAAA", "ÄAAA", "AA\0A", "AAA!"],
)
def test_base64_of_any_other_form_is_refused(text: str) -> None:
    assert decode_base64(text) is None
