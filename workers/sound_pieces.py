"""What is not sound is taken out of a recording, or counted, before a demuxer sees it.

FFmpeg keeps metadata in a list that it searches from its start for each entry: 300 kB of comments took it 10 s, a megabyte two minutes. WAV, FLAC and
MP3 files are handed on without theirs. In the other formats entries are counted, by what each of them must hold, and so are the pieces of the file.
What an MP4 file says of its samples is added up: FFmpeg makes an index of as many, and a few bytes may claim four billion.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import chain

from domain.contracts import Blob
from domain.failures import InvalidAudio

MAX_HEADERS = 1_000  # chunks, blocks or tags before the sound; recorders write a handful
MAX_ENTRIES = 2_000  # of metadata: a tenth of a second
MAX_PIECES = 200_000  # pages of Ogg, or atoms of MP4: half a second; an hour of speech as telephones send it has 180,000 packets
UNKNOWN_SIZE = 0xFFFFFFFF
_OGG_HEADERS = re.compile(rb"OggS\x00[\x02\x03\x06\x07]|\x03vorbis")  # a stream's first page, and comments of Vorbis wherever they stand
_WEBM_ENTRIES = (b"\x67\xc8", b"\x73\xc4")  # what each tag, and each chapter, begins with; sound of 25 MiB has some 400 of either by chance
MAX_OGG_HEADERS = 20  # each may hold ``MAX_ENTRIES``
_MP4_COUNTS = re.compile(rb"stsz|stz2|stsc|stco|co64|elst|trun|cmov")
_MP4_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"ilst", b"moof", b"traf"}


def wav_of_sound(content: bytes) -> tuple[bytes, float]:
    """A WAV file without what is not sound, and how long it says it is, in seconds; 0 where it says nothing.

    FFmpeg tells what is there, so a file cut off would be short.

    Raises:
        InvalidAudio: there is no sound in it, or none within its first chunks.
    """
    place, bytes_a_second, long_size, head = 12, 0, 0, b""
    for _ in range(MAX_HEADERS):
        if place + 8 > len(content):
            raise InvalidAudio("there is no sound in it")
        kind, size = content[place : place + 4], _little(content, place + 4, 4)
        if kind == b"data":
            size = long_size if size == UNKNOWN_SIZE else size
            streamed = size in {0, UNKNOWN_SIZE}  # whoever wrote it did not know yet
            end = len(content) if streamed else place + 8 + size
            return content[:12] + head + content[place:end], 0.0 if streamed or not bytes_a_second else size / bytes_a_second
        if kind in {b"fmt ", b"ds64"}:
            head += content[place : place + 8 + size + size % 2]
        if kind == b"fmt ":
            bytes_a_second = _little(content, place + 16, 4)
        if kind == b"ds64":
            long_size = _little(content, place + 16, 8)
        place += 8 + size + size % 2
    raise InvalidAudio(f"no sound within its first {MAX_HEADERS:,} chunks")


def sound_of(blob: Blob) -> bytes:
    """A recording of any other format, fit to be handed to its demuxer.

    Raises:
        InvalidAudio: it has more pieces, or more entries of metadata, than are read.
    """
    match blob.content_type:
        case "audio/flac":
            return _flac(blob.content)
        case "audio/mpeg":
            return _mp3(blob.content)
        case "audio/ogg":
            _judge_ogg(blob.content)
        case "audio/mp4":
            _judge(chain([blob.content.count(b"data\x00")], _mp4_atoms(blob.content)))  # each entry has one, of a type below 2**24
            _judge_mp4_samples(blob.content)
        case "audio/webm":
            _judge(blob.content.count(name) for name in _WEBM_ENTRIES)
    return blob.content


def _judge(pieces: Iterable[int]) -> None:
    """Judges the pieces of a file, of each of which is given how many entries it may hold."""
    for number, entries in enumerate(pieces):
        if number >= MAX_PIECES:
            raise InvalidAudio(f"it is made of over {MAX_PIECES:,} pieces")
        if entries > MAX_ENTRIES:
            raise InvalidAudio(f"it has over {MAX_ENTRIES:,} entries of metadata")


def _flac(content: bytes) -> bytes:
    """The stream's own block alone: comments, pictures and seek tables are not needed."""
    place, own = 4, b""
    for _ in range(MAX_HEADERS):
        if place + 4 > len(content):
            raise InvalidAudio("there is no sound in it")
        kind, end = content[place], place + 4 + int.from_bytes(content[place + 1 : place + 4])
        if kind & 0x7F == 0 and not own:
            own = b"\x80" + content[place + 1 : end]
        if kind & 0x80:
            return content[:4] + own + content[end:]
        place = end
    raise InvalidAudio(f"no sound within its first {MAX_HEADERS:,} blocks")


def _mp3(content: bytes) -> bytes:
    """Without the ID3 tags before the sound."""
    place = 0
    for _ in range(MAX_HEADERS):
        head = content[place : place + 10]
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:]) > 0x7F:
            return content[place:]
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    raise InvalidAudio(f"no sound within its first {MAX_HEADERS:,} tags")


def _judge_ogg(content: bytes) -> None:
    if len(_OGG_HEADERS.findall(content)) > MAX_OGG_HEADERS:
        raise InvalidAudio(f"it holds over {MAX_OGG_HEADERS} streams")
    _judge(_ogg_pages(content))


def _ogg_pages(content: bytes) -> Iterator[int]:
    """For each page, how many entries of metadata the packet that it ends, or continues, may hold: each has a sign between its name and its value."""
    entries: dict[bytes, int] = {}  # by stream
    place = 0
    while (place := content.find(b"OggS", place)) >= 0:
        if content[place + 4 : place + 5] != b"\x00":
            yield 0
            place += 4
            continue
        segments = content[place + 27 : place + 27 + content[place + 26]] if place + 26 < len(content) else b""
        body = place + 27 + len(segments)
        place, stream = body + sum(segments), content[place + 14 : place + 18]
        found = entries.get(stream, 0) + content.count(b"=", body, place)
        yield found
        entries[stream] = content.count(b"=", body, place) if segments and min(segments) < 255 else found


def _mp4_atoms(content: bytes) -> Iterator[int]:
    place = 0
    while place + 8 <= len(content):
        yield 0
        size, kind = _atom_bytes(content, place), content[place + 4 : place + 8]
        place += 8 if kind in _MP4_CONTAINERS or size < 8 else size


def _atom_bytes(content: bytes, place: int) -> int:
    size = int.from_bytes(content[place : place + 4])
    return int.from_bytes(content[place + 8 : place + 16]) if size == 1 else size


def _judge_mp4_samples(content: bytes) -> None:
    """A sample is a byte at least, so there are no more of them than bytes. Each edit of a list may go over all samples again.

    FFmpeg takes these tables wherever they stand, and their sizes for what they may be. So all but the sound is searched for their names.
    """
    tables = _without_mdat(content)
    samples = chunks = in_a_chunk = edits = 0
    for found in _MP4_COUNTS.finditer(tables):
        first, second = (int.from_bytes(tables[place : place + 4]) for place in (found.end() + 4, found.end() + 8))
        match found[0]:
            case b"stsz" | b"stz2":
                samples += second
            case b"trun":
                samples += first
            case b"stco" | b"co64":
                chunks += first
            case b"elst":
                edits += first
            case b"stsc":
                entries = tables[found.end() + 8 : found.end() + 8 + 12 * first]
                in_a_chunk = max(in_a_chunk, *(entry[1] for entry in struct.iter_unpack(">III", entries[: len(entries) // 12 * 12])), 0)
            case _:
                raise InvalidAudio("its header is compressed")
    if max(samples * max(1, edits), chunks * in_a_chunk) > len(content):
        raise InvalidAudio("it says that it holds more samples than bytes")


def _without_mdat(content: bytes) -> bytes:
    kept, place = [], 0
    while place + 8 <= len(content):
        size = _atom_bytes(content, place)
        end = place + size if size >= 8 else len(content)
        if content[place + 4 : place + 8] != b"mdat":
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _little(content: bytes, place: int, size: int) -> int:
    return int.from_bytes(content[place : place + size], "little")
